"""How a step does its work: models, tools, the gateway."""
