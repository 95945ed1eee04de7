"""A page that shows the OpenAPI document of the server, without scripts and files of others."""

import json
from html import escape
from string import Template
from typing import Any

_PAGE = Template("""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>$title</title>
<style>
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 56rem; margin: 2rem auto; padding: 0 1rem; }
code, pre { font: 0.875rem/1.5 ui-monospace, monospace; }
pre { overflow-x: auto; padding: 0.75rem 1rem; background: #8881; border-radius: 6px; }
table { border-collapse: collapse; width: 100%; }
td { padding: 0.25rem 1rem 0.25rem 0; border-bottom: 1px solid #8883; vertical-align: top; }
td:first-child { width: 3rem; }
h2 { margin-top: 2rem; }
h2 code { font-size: 1.125rem; }
summary { cursor: pointer; padding: 0.25rem 0; }
</style>
<h1>$title</h1>
<p>$description</p>
<p><a href="openapi.json">openapi.json</a> describes the same in the format of OpenAPI.</p>
$operations
<h2>Schemas</h2>
$schemas
</html>
""")


def format_page(document: dict[str, Any]) -> str:
    """Formats a document of `describe_api` as HTML."""
    operations = [
        _format_operation(method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    schemas = [
        f"<details><summary><code>{escape(name)}</code></summary>{_format_json(schema)}</details>"
        for name, schema in document["components"]["schemas"].items()
    ]
    return _PAGE.substitute(
        title=escape(document["info"]["title"]),
        description=escape(document["info"]["description"]),
        operations="\n".join(operations),
        schemas="\n".join(schemas),
    )


def _format_operation(method: str, path: str, operation: dict[str, Any]) -> str:
    content = operation.get("requestBody", {}).get("content", {})
    examples = "".join(
        f"<p>For example, with the content type {escape(kind)}:</p>{_format_json(body['example'])}"
        for kind, body in content.items()
        if "example" in body
    )
    bodies = f"<p>Content types: {escape(', '.join(content))}.</p>" if content else ""
    answers = "".join(
        f"<tr><td><code>{status}</code><td>{escape(response['description'])}{_name(response)}"
        for status, response in operation["responses"].items()
    )
    return (
        f"<h2><code>{method.upper()} {escape(path)}</code></h2>"
        f"<p>{escape(operation['summary'])}.</p>{bodies}{examples}<table>{answers}</table>"
    )


def _name(response: dict[str, Any]) -> str:
    """Names the schema of an answer, if it has a name."""
    names = [
        body["schema"]["$ref"].rpartition("/")[2]
        for body in response.get("content", {}).values()
        if "$ref" in body["schema"]
    ]
    return "".join(f" (<code>{escape(name)}</code>)" for name in names)


def _format_json(value: Any) -> str:
    return f"<pre>{escape(json.dumps(value, indent=2))}</pre>"
