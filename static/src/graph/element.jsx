// <mn-graph>: the one picture of a graph that can be touched. The server's SVG stands inside it until it mounts.
//
//   <mn-graph mode="edit" name="my_blueprint" draft="ID" view="graph-view" version="17" [private] [readonly]>…svg…</mn-graph>
//   {{ view|json_script:"graph-view" }}
//
// mode     edit, run or diff
// view     id of a json_script with the view model; or src, an address that answers with it
// name     the blueprint: requests go to /api/v1/blueprints/{name}/draft… (with ?private=true where `private` stands)
// draft    the draft's id: the socket is /ws/drafts/{id}
// me       id of the person looking, so that presence shows others only
// Says     data-version, data-idle (true when nothing is under way), data-mounted; events mn:select {nodes},
//          mn:applied {version, patch}, mn:open {node}. Hears the same mn:select and mn:applied from the page, when
//          they were not sent by itself, mn:command {command}, and clicks on [data-graph-command="undo"] anywhere.
// Fills    [data-graph-status] with "Saved", "Saving…", "Offline, 3 changes kept".
import "@xyflow/react/dist/style.css";
