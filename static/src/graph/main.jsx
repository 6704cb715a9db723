import "./element.jsx";
