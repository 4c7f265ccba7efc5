const form = document.querySelector("form");
const buttons = document.querySelectorAll("[data-examplary-action]");
const saved = document.querySelector(".saved");
const framed = window.parent !== window;
// The next save and the last sent save, both of which must finish before the end.
let timer;
let saving;

function send(action) {
  return fetch(`${location.pathname}/${action}`, {
    method: "POST",
    credentials: "omit",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(Object.fromEntries(new FormData(form))),
  });
}

async function finish(action) {
  buttons.forEach((button) => (button.disabled = true));
  clearTimeout(timer);
  await saving;
  const response = await send(action);
  if (!response.ok) {
    location.reload();
    return;
  }
  const { status, outputs, targetOrigin, redirect } = await response.json();
  form.hidden = true;
  document.querySelector("[data-finished]").hidden = false;
  if (framed && targetOrigin) {
    window.parent.postMessage({ type: "examplary:embed-status-update", status, outputs }, targetOrigin);
  } else if (redirect) {
    location.assign(redirect);
  }
}

buttons.forEach((button) => {
  button.addEventListener("click", () => finish(button.dataset.examplaryAction));
});

form.addEventListener("submit", (event) => event.preventDefault());

if (saved) {
  const done = saved.textContent;
  form.addEventListener("input", () => {
    clearTimeout(timer);
    saved.textContent = saved.dataset.saving;
    timer = setTimeout(async () => {
      saving = send("save").catch(() => Response.error());
      saved.textContent = (await saving).ok ? done : saved.dataset.failed;
    }, 250);
  });
}
