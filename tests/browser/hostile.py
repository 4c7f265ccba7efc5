"""A fake whose embeds misbehave on demand, as a compromised service or a forger would."""

from __future__ import annotations

import dataclasses

from django_examplary.testing import FakeExamplary
from django_examplary.testing.messages import Request, Response, html_response

# The target origin is "*", so that only the checks of the receiver can reject these messages.
_FORGED = '{type: "examplary:embed-status-update", status: "completed", outputs: {forged: true}}'
# Scripts that are added to an embed page: ``<embed URL>?misbehave=flood``.
_MISBEHAVIOURS = {
    "early": f"parent.postMessage({_FORGED}, '*');",
    # Browsers limit intervals to 4 ms, so send ten messages every 10 ms: 1,000 per second.
    "flood": "setInterval(() => { for (let i = 0; i < 10; i++) "
    f"parent.postMessage({_FORGED}, '*'); }}, 10);",
    "navigate": "top.location = new URL('/hostile', location.href);",
    "nested": "document.body.append(Object.assign(document.createElement('iframe'), "
    "{src: '/hostile', title: 'nested'}));",
}
_HOSTILE = """<!doctype html><title>Hostile</title><script>
const forged = %s;
function forge() {
  for (const target of new Set([parent, top, opener])) {
    if (target && target !== window) target.postMessage(forged, "*");
  }
}
forge();
// Repeated, because the attacked page may not listen yet.
setInterval(forge, 100);
</script>"""


class HostileExamplary(FakeExamplary):
    """Serves ``/hostile``, which posts forged results, and lets embed pages misbehave."""

    def handle(self, request: Request) -> Response:
        if request.path == "/hostile":
            return html_response(200, _HOSTILE % _FORGED)
        response = super().handle(request)
        script = _MISBEHAVIOURS.get(request.query.get("misbehave", ""))
        if script is None:
            return response
        body = response.body + f"<script>{script}</script>".encode()
        return dataclasses.replace(response, body=body)
