// Shows the commands that ask MLflow's server for the same answer.

import { find } from "./dom.js";

const PORT = 5001;

export function showCurl(photo, model) {
  find("serve").textContent = `mlflow models serve -m ${model} --env-manager uv --port ${PORT}`;
  find("command").textContent = makeCommand(photo.name);
  Object.assign(find("save"), { href: photo.url, download: photo.name });
  find("copied").textContent = "";
  find("copy").onclick = async () => {
    await navigator.clipboard.writeText(find("command").textContent);
    find("copied").textContent = "Copied.";
  };
}

function makeCommand(name) {
  const body = '{"dataframe_split": {"columns": ["image"], "data": [["%s"]]}, "params": {"all_probabilities": true}}';
  const path = `./${name}`.replaceAll("'", "'\\''");
  return [
    `printf '${body}' "$(base64 < '${path}' | tr -d '\\n')" |`,
    `  curl http://127.0.0.1:${PORT}/invocations -H 'Content-Type: application/json' --data-binary @-`,
  ].join("\n");
}
