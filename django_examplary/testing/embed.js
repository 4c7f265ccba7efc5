const form = document.querySelector("form");
const buttons = document.querySelectorAll("[data-examplary-action]");
const saved = document.querySelector(".saved");
const framed = window.parent !== window;

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
  let timer;
  form.addEventListener("input", () => {
    clearTimeout(timer);
    saved.textContent = saved.dataset.saving;
    timer = setTimeout(async () => {
      const response = await send("save");
      saved.textContent = response.ok ? done : saved.dataset.failed;
    }, 250);
  });
}
