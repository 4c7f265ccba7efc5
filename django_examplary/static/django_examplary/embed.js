/**
 * <examplary-embed>: an iframe that reports to its page how the flow inside has ended.
 *
 * A message from the iframe only makes this script post to the site's own server, which asks
 * Examplary. The events below carry the server's answer; the content of the message is never used.
 *
 * Events, all bubbling: examplary:completed, examplary:cancelled, examplary:closed,
 * examplary:error, with detail {status, outputs, redirect} or {reason, title, text, detail,
 * reference}. Unless a handler prevents one of the first three, the page continues to `redirect`
 * if there is one.
 *
 * `data-state` is a key of STATES. A frame in the state "loaded" may show the browser's own error
 * page, which no script can detect; "ready" means that it has sent a message.
 *
 * Markup that the server rendered stays as it is: everything that this script adds is in a shadow
 * tree, out of reach of libraries that compare or boost the page's HTML. The iframe is never moved
 * once it has an address, because that would reload it.
 *
 * This file runs as a module and as a classic script, in the head or at the end of the page.
 * Supported are the browsers of Baseline "widely available". From Safari and iPadOS 15.4, Chrome and
 * Edge 108, and Firefox 115 on everything works, in light colours; older ones show the same as
 * without JavaScript. A feature that any of these lacks is used behind a check, which
 * tests/browser/test_old_browsers.py proves.
 */
(() => {
  "use strict";

  const MESSAGE_TYPE = "examplary:embed-status-update";
  const CLAIMS = ["completed", "cancelled"];
  // Reasons that a reload of the page resolves, and another launch does not.
  const STALE = ["stale", "signed-out", "other-account", "ended"];
  // These pass soon, so the element asks again by itself, after these pauses, for a minute. They
  // grow and vary, so that the users of a busy site do not all return at the same moment.
  const PASSING = ["preparing", "busy"];
  const PATIENT_PAUSES = [1000, 2000, 4000, ...Array(7).fill(8000)];
  // The API may answer "pending" for a moment after the embed has reported an end.
  const PAUSES = [0, 500, 1000, 2000, 4000];
  // The server requests a session from the API once a second at most.
  const QUIET_PAUSES = [0, 2000];

  // For a server, or a proxy before it, that never responds.
  const POST_LIMIT = 60_000;

  // listens: messages and loads of the frame count. silent: it has sent no message yet.
  // work: there may be unsaved work in it. session: there is a session to end.
  // bar: the line below the frame is in place. final: the session has ended.
  const STATES = {
    idle: {},
    loading: { listens: true, silent: true, bar: true },
    loaded: { listens: true, silent: true, work: true, session: true, bar: true },
    ready: { listens: true, work: true, session: true, bar: true },
    verifying: { session: true, bar: true },
    completed: { final: true },
    cancelled: { final: true },
    closed: { final: true },
    ended: {},
    failed: {},
    unverified: { session: true },
    stale: {},
    offline: {},
  };

  // Whether the browser went back to this page, and may still restore the frames in it.
  let isRestoring = performance.getEntriesByType?.("navigation")[0]?.type === "back_forward";

  class ExamplaryEmbed extends HTMLElement {
    static observedAttributes = ["data-state"];

    #state;
    // The frame's address as the newest copy of the page has it.
    #src;
    // The address `launch/<token>/` or `window/<token>/`, from which the others are derived.
    #base;
    // The session of the last launch. The attribute may belong to a newer copy of the page.
    #key;
    // The page of a one-time link posts this in place of a CSRF token.
    #token;
    #template;
    #frame;
    #slot;
    #stage;
    #bar;
    #help;
    #done;
    #status;
    #dialog;
    #panel = null;
    #isLeaving = false;
    #isTyping = false;
    #isRestored = false;
    // Ends everything that this element has registered in the page, when it is removed from it.
    #life;
    #graceTimer;
    #observer;
    #checking = null;
    // The pauses before the next quiet requests; null if there is none on its way.
    #quietPauses = null;
    // How often the element has launched again by itself, and the timer of the next launch.
    #relaunches = 0;
    #relaunchTimer;
    #retry = () => this.reload();

    /** Build an element from the data of `embeds.embed_context()`, to be put into a page. */
    static create(data) {
      if (data.login_url) {
        throw new Error("The visitor is not signed in: send them to data.login_url.");
      }
      if (data.panels && !findTemplate()) {
        const template = document.createElement("template");
        template.setAttribute("data-examplary-panels", "");
        template.innerHTML = data.panels;
        const sheets = template.content.querySelectorAll("link");
        document.head.append(template, ...[...sheets].map((sheet) => sheet.cloneNode()));
      }
      const element = document.createElement("examplary-embed");
      element.className = `examplary-embed ${data.css_class}`.trim();
      element.classList.toggle("examplary-embed--modal", data.modal);
      const flags = {
        "data-confirm-close": data.confirm_close,
        "data-done": !data.completes,
        "data-eager": data.waits && data.load === "eager",
        "data-debug": data.debug,
      };
      const credentials = data.token ? "token" : "csrf_token";
      const names = ["flow", "key", credentials, "origins", "site_origin", "grace"];
      for (const name of names) {
        element.setAttribute(`data-${name.replace("_", "-")}`, data[name]);
      }
      for (const [name, isSet] of Object.entries(flags)) {
        element.toggleAttribute(name, isSet);
      }
      const frame = document.createElement("iframe");
      frame.className = "examplary-embed__frame";
      frame.slot = "frame";
      frame.name = data.frame_name;
      frame.title = data.title;
      frame.referrerPolicy = "strict-origin-when-cross-origin";
      for (const name of ["allow", "sandbox"]) {
        if (data[name]) {
          frame.setAttribute(name, data[name]);
        }
      }
      if (data.waits) {
        const opener = document.createElement("a");
        opener.href = data.url;
        opener.setAttribute("data-examplary-opener", "");
        element.append(opener);
      } else {
        frame.setAttribute("loading", data.load);
        frame.src = data.url;
      }
      element.append(frame);
      return element;
    }

    connectedCallback() {
      this.#life = new AbortController();
      const isParsed = this.querySelector("iframe") && findTemplate();
      if (isParsed || document.readyState !== "loading") {
        this.#start();
      } else {
        // The script ran in the head of a page whose rest is still to come.
        this.#listen(document, "DOMContentLoaded", () => this.#start());
      }
    }

    disconnectedCallback() {
      this.#life.abort();
      this.#observer?.disconnect();
      clearTimeout(this.#graceTimer);
      clearTimeout(this.#relaunchTimer);
      this.#checking = null;
      this.#isLeaving = false;
      this.#closeDialog();
    }

    /** A move that keeps the frame as it is (`moveBefore`) changes nothing here either. */
    connectedMoveCallback() {}

    /** Put back a state that was removed by a newer copy of the page, which does not have it. */
    attributeChangedCallback(name, before, after) {
      if (this.#state && after !== this.#state) {
        this.dataset.state = this.#state;
      }
    }

    /** Open the dialog if there is one, and launch unless that was done before. */
    open() {
      if (!this.#isRunning()) {
        return;
      }
      if (this.#dialog && !this.#dialog.hasAttribute("open")) {
        reportErrors(() => this.#openDialog());
      }
      if (this.#state === "idle" || STATES[this.#state].final) {
        this.reload();
      }
    }

    /** Launch again in the same frame. */
    reload() {
      if (!this.#isRunning()) {
        return;
      }
      this.#retry = () => this.reload();
      if (!navigator.onLine) {
        this.#goOffline();
        return;
      }
      this.#isRestored = false;
      this.#relaunches = 0;
      this.#readAddress();
      this.#show("loading");
      this.#navigate(this.#launchAddress("launch"));
    }

    /** End the session if there is one, as the Done button does. */
    async close() {
      // A result that is being checked comes first.
      await this.#checking;
      if (this.#isRunning() && STATES[this.#state].session) {
        await this.#ask("close", [0]);
      }
    }

    // Setting up

    /** Return whether the element is in a page and has started there. */
    #isRunning() {
      return this.isConnected && Boolean(this.#state);
    }

    #start() {
      const frame = this.querySelector("iframe");
      const template = findTemplate();
      if (!frame || !template) {
        console.error("<examplary-embed> needs its <iframe>, and {% examplary_script %} once.");
        return;
      }
      if (frame !== this.#frame) {
        this.#adopt(frame);
      }
      this.#readAddress();
      if (!this.shadowRoot) {
        this.#build(template);
      }
      this.#listen(this.#frame, "load", () => this.#onLoad());
      this.#listen(this.#slot, "slotchange", () => this.#onSlotChange());
      this.#listen(this.shadowRoot, "click", (event) => this.#onClick(event));
      this.#listen(window, "message", (event) => this.#onMessage(event));
      this.#listen(window, "offline", () => this.#onOffline());
      this.#listen(window, "online", () => this.#onOnline());
      this.#listen(window, "pageshow", (event) => event.persisted && this.#resume(this.#state));
      // A prerendered page launches nothing before it is shown.
      this.#listen(document, "prerenderingchange", () => this.#resume(this.#state));
      this.#listen(window, "blur", () => this.#onBlur());
      this.#listen(window, "focus", () => this.#onFocus());
      if (this.#dialog) {
        this.#listen(this.#dialog, "cancel", (event) => this.#onEscape(event));
        this.#listen(this.#dialog, "keydown", (event) => this.#onEscape(event));
        this.#listen(this.#dialog, "close", () => this.#stay());
      }
      this.#begin();
    }

    #begin() {
      const state = this.getAttribute("data-state");
      if (STATES[state]?.final) {
        // Put back as it was taken away.
        this.#show(state);
      } else if (!this.#frame.hasAttribute("src")) {
        this.#show("idle");
        if ("eager" in this.dataset) {
          this.reload();
        }
      } else {
        this.#show("loading");
        if (isRestoring) {
          // A launch has to wait: the browser would put the restored page over it.
          this.#isRestored = true;
          this.#listen(window, "load", () => this.#onPageLoad());
        } else if (!this.#isBlank() && this.#frame.contentDocument?.readyState !== "loading") {
          // The frame is older than this script, and has loaded already.
          this.#onLoad();
        }
      }
    }

    /**
     * Keep the frame's address and name when a library copies the attributes of a newer page over
     * them: a new token would reload the frame, and the work in it would be lost.
     */
    #adopt(frame) {
      this.#frame = frame;
      this.#src = frame.getAttribute("src") ?? frame.dataset.examplarySrc;
      const { setAttribute, removeAttribute } = Element.prototype;
      frame.setAttribute = (name, value) => {
        if (name === "src") {
          this.#src = value;
        } else if (name !== "name") {
          setAttribute.call(frame, name, value);
        }
      };
      frame.removeAttribute = (name) => {
        if (name !== "src" && name !== "name") {
          removeAttribute.call(frame, name);
        }
      };
      Object.defineProperty(frame, "src", {
        configurable: true,
        get: () => this.#src,
        set: (value) => {
          frame.setAttribute("src", value);
        },
      });
    }

    /** Take address and key of the next launch from the page as it is now. */
    #readAddress() {
      const opener = this.querySelector("a[data-examplary-opener]");
      this.#base = new URL(opener ? opener.href : this.#src, document.baseURI);
      this.#key = this.dataset.key;
      this.#token = this.dataset.token;
    }

    #build(template) {
      this.#template = template.content;
      const parts = document.importNode(template.content, true);
      const find = (name) => parts.querySelector(`[data-examplary-${name}]`);
      this.#slot = parts.querySelector("slot");
      this.#stage = find("stage");
      this.#bar = find("bar");
      this.#help = find("help");
      this.#done = find("done");
      this.#status = find("status");
      this.#dialog = find("dialog");
      for (const panel of parts.querySelectorAll("[data-examplary-state]")) {
        panel.remove();
      }
      this.#adapt(parts);
      if (!("done" in this.dataset)) {
        this.#done.remove();
        this.#done = null;
      }
      if (this.classList.contains("examplary-embed--modal")) {
        this.#dialog.setAttribute("aria-label", this.#frame.title);
        this.#dialog.append(find("body"));
      } else {
        find("opener").remove();
        this.#dialog.remove();
        this.#dialog = null;
      }
      this.attachShadow({ mode: "open" }).append(parts);
      if (this.#reportsElsewhere() && "debug" in this.dataset) {
        this.#explainOrigin();
      }
      reportErrors(() => this.#awaitStyle());
    }

    /** Return whether the embed reports to another origin, so that this page gets no message. */
    #reportsElsewhere() {
      const { siteOrigin } = this.dataset;
      return Boolean(siteOrigin) && siteOrigin !== window.location.origin;
    }

    #explainOrigin() {
      const hint = document.createElement("p");
      hint.className = "examplary-embed__hint";
      hint.textContent =
        `This page is at ${window.location.origin}, and its embeds report to ` +
        `${this.dataset.siteOrigin}: the browser withholds their messages. ` +
        "Correct EXAMPLARY_SITE_ORIGIN, or the headers of the proxy. (DEBUG is on.)";
      // In the dialog, if there is one: it covers the page.
      this.#bar.after(hint);
    }

    /** Hide the parts until their stylesheet has loaded, or has failed to. */
    #awaitStyle() {
      const sheet = this.shadowRoot.querySelector("link");
      if (!sheet || sheet.sheet) {
        return;
      }
      const parts = [...this.shadowRoot.children];
      const setVisibility = (value) => parts.forEach((part) => (part.style.visibility = value));
      setVisibility("hidden");
      sheet.addEventListener("load", () => setVisibility(""));
      sheet.addEventListener("error", () => setVisibility(""));
    }

    /** Fill in the name and the address of this embed, and remove the parts of other flows. */
    #adapt(parts) {
      const { flow } = this.dataset;
      const each = (name, action) => {
        parts.querySelectorAll(`[data-examplary-${name}]`).forEach(action);
      };
      each("name", (part) => (part.textContent = this.#frame.title));
      if (this.#token) {
        // A one-time link opens no other window.
        each("window", (part) => part.remove());
      }
      each("window", (part) => (part.href = this.#launchAddress("window")));
      each("only", (part) => part.dataset.examplaryOnly.split(" ").includes(flow) || part.remove());
      each(
        "except",
        (part) => part.dataset.examplaryExcept.split(" ").includes(flow) && part.remove(),
      );
    }

    #listen(target, type, listener) {
      target.addEventListener(type, listener, { signal: this.#life.signal });
    }

    // The frame

    #launchAddress(view) {
      const [token] = this.#base.pathname.split("/").slice(-2);
      return this.#address(view, token);
    }

    #address(view, name) {
      return new URL(`../../${view}/${name}/`, this.#base).href;
    }

    /** Unlike a new `src` this leaves no step in the history, for Back to undo. */
    #navigate(address) {
      this.#frame.contentWindow.location.replace(address);
    }

    #onLoad() {
      const state = STATES[this.#state];
      if (state.final) {
        // An element that is moved must not launch again. Not before the frame is blank: browsers
        // would make a step in the history of it.
        this.#removeSource();
      }
      if (this.#state === "idle" && !this.#isBlank()) {
        // The browser has restored the former page of the frame.
        this.#navigate("about:blank");
      }
      if (!state.listens || document.prerendering) {
        return;
      }
      if (this.#isRestored) {
        this.reload();
        return;
      }
      // The page in the frame; null if it is another site's.
      const page = this.#frame.contentDocument;
      const problem = page?.querySelector("[data-examplary-problem]");
      if (problem) {
        this.#fail(problem);
      } else if (page && !this.#isBlank()) {
        // The frame has come back to this site.
        this.#ask("sync", PAUSES);
      } else if (!page && !navigator.onLine) {
        this.#goOffline();
      } else if (!page && this.#state === "loading") {
        this.#show("loaded");
      }
    }

    /** Launch in a frame that the browser has left blank; in a lazy one when it is in view. */
    #onPageLoad() {
      if (!this.#isRestored) {
        return;
      }
      const launch = () => this.#isRestored && this.reload();
      if (this.#frame.loading === "lazy") {
        this.#whenSeen(launch);
      } else {
        launch();
      }
    }

    /** A library may have replaced the frame by a new one, which has an address of its own. */
    #onSlotChange() {
      const frame = this.querySelector("iframe");
      if (frame && frame !== this.#frame) {
        this.disconnectedCallback();
        this.#state = undefined;
        this.removeAttribute("data-state");
        this.connectedCallback();
      }
    }

    #removeSource() {
      const source = this.#frame.getAttribute("src");
      if (source !== null) {
        this.#frame.dataset.examplarySrc = source;
        Element.prototype.removeAttribute.call(this.#frame, "src");
      }
    }

    #isBlank() {
      return this.#frame.contentDocument?.URL === "about:blank";
    }

    #onMessage(event) {
      if (
        event.source !== this.#frame.contentWindow ||
        !this.dataset.origins.split(" ").includes(event.origin) ||
        !STATES[this.#state].listens
      ) {
        return;
      }
      const isDocumented = event.data?.type === MESSAGE_TYPE;
      if (isDocumented && CLAIMS.includes(event.data.status)) {
        this.#ask("sync", PAUSES);
        return;
      }
      if (this.#state !== "ready") {
        this.#show("ready");
      }
      if (isDocumented) {
        this.#askQuietly();
      }
    }

    /**
     * Continue a page from the browser's page cache. Another user may be signed in by now, so
     * the frame stays covered until the server has found the session among those of this user.
     */
    async #resume(state) {
      if (state === "loading") {
        this.reload();
        return;
      }
      if (!STATES[state].work) {
        return;
      }
      const { signal } = this.#life;
      this.#show("loading");
      const answer = await this.#post("sync");
      if (signal.aborted || this.#state !== "loading") {
        return;
      }
      if (answer.status === "pending") {
        this.#show(state);
      } else {
        this.#take(answer);
        this.#retry = () => this.#resume(state);
      }
    }

    // The user's actions

    #onClick(event) {
      switch (event.target.closest("[data-examplary-do]")?.dataset.examplaryDo) {
        case "open":
          return this.open();
        case "reload":
          return this.reload();
        case "retry":
          return this.#retry();
        case "reload-page":
          return window.location.reload();
        case "close":
          return this.close();
        case "hide-help":
          return this.#offerHelp(false);
        case "dismiss":
          return this.#dismiss();
        case "stay":
          return this.#stay();
        case "leave":
          return this.#closeDialog();
      }
    }

    #onOffline() {
      if (this.#state === "loading") {
        this.#goOffline();
      }
    }

    #onOnline() {
      if (this.#state === "offline") {
        this.#retry();
      }
    }

    /** WebKit leaves `activeElement` as it was when the user clicks into a frame. */
    #onBlur() {
      this.#isTyping = document.hasFocus() && this.#frame.matches(":hover");
    }

    #onFocus() {
      this.#isTyping = false;
      // The user comes back from the frame, which cannot report that it has finished.
      if (this.#reportsElsewhere() && STATES[this.#state].work) {
        this.#askQuietly();
      }
    }

    /**
     * Handle the Escape key and other requests to close. Browsers let a page refuse `cancel` only
     * once in a row, so the key is refused before it leads to one.
     */
    #onEscape(event) {
      if (event.type === "keydown" && event.key !== "Escape") {
        return;
      }
      event.preventDefault();
      if (this.#isLeaving) {
        this.#stay();
      } else {
        this.#dismiss();
      }
    }

    #openDialog() {
      if (this.#dialog.showModal) {
        this.#dialog.showModal();
      } else {
        this.#dialog.setAttribute("open", "");
      }
    }

    #closeDialog() {
      if (this.#dialog?.close) {
        this.#dialog.close();
      } else if (this.#dialog) {
        this.#dialog.removeAttribute("open");
        this.#stay();
      }
    }

    /** Close the dialog, unless there may be work in it that its user has to decide about. */
    #dismiss() {
      if ("confirmClose" in this.dataset && STATES[this.#state].work) {
        this.#isLeaving = true;
        this.#setPanel("leaving").querySelector("button").focus();
        this.#showBar();
      } else {
        this.#closeDialog();
      }
    }

    #stay() {
      if (this.#isLeaving) {
        this.#isLeaving = false;
        this.#setPanel(this.#state);
        this.#showBar();
        if (this.#dialog.hasAttribute("open")) {
          this.#focusFrame();
        }
      }
    }

    /** Firefox ignores this while it handles a key, so it waits for the key to be done. */
    #focusFrame() {
      setTimeout(() => {
        this.#frame.focus();
        this.#frame.contentWindow?.focus();
      });
    }

    // The result

    /** Ask the server once at a time, however many messages come meanwhile. */
    #ask(view, pauses) {
      this.#checking ??= this.#askUntilFinal(view, pauses, this.#life.signal);
      return this.#checking;
    }

    /** A status that is not documented may be an end, or not: the user continues meanwhile. */
    async #askQuietly() {
      if (this.#quietPauses) {
        // The answer that is on its way may be older than this message.
        this.#quietPauses = QUIET_PAUSES.slice(1);
        return;
      }
      this.#quietPauses = [...QUIET_PAUSES];
      const { signal } = this.#life;
      while (this.#quietPauses.length) {
        await sleep(this.#quietPauses.shift(), signal);
        const answer = signal.aborted ? null : await this.#post("sync");
        if (signal.aborted) {
          break;
        }
        const isOver = answer.status ? answer.status !== "pending" : answer.reason === "ended";
        if (isOver && STATES[this.#state].listens) {
          this.#take(answer);
          break;
        }
      }
      this.#quietPauses = null;
    }

    async #askUntilFinal(view, pauses, signal) {
      this.#retry = () => this.#ask(view, pauses);
      this.#show("verifying");
      const pending = pauses.values();
      const passing = PATIENT_PAUSES.map(vary).values();
      let answer;
      let next = pending.next();
      while (!next.done) {
        await sleep(next.value, signal);
        answer = signal.aborted ? null : await this.#post(view);
        if (signal.aborted) {
          return;
        }
        if (answer.status === "pending") {
          next = pending.next();
        } else if (PASSING.includes(answer.reason)) {
          next = passing.next();
        } else {
          break;
        }
      }
      this.#checking = null;
      this.#take(answer);
    }

    #postAddress(view) {
      return this.#token ? this.#address("report", view) : this.#address(view, this.#key);
    }

    /** Fields: a site may name the header of the token differently, and no log holds fields. */
    #postBody() {
      const proof = this.#token
        ? { token: this.#token }
        : { csrfmiddlewaretoken: this.dataset.csrfToken };
      return new URLSearchParams({ ...proof, language: this.closest("[lang]")?.lang ?? "" });
    }

    async #post(view) {
      try {
        const response = await fetch(this.#postAddress(view), {
          method: "POST",
          headers: { Accept: "application/json" },
          body: this.#postBody(),
          // Safari 15 lacks this, and waits as long as it always does.
          signal: AbortSignal.timeout?.(POST_LIMIT),
        });
        // Django's own refusals are pages: of a CSRF token, or of a session that is not the user's.
        const isRefused = [403, 404].includes(response.status);
        const isJson = response.headers.get("Content-Type")?.startsWith("application/json");
        return isRefused && !isJson ? { reason: "stale" } : await response.json();
      } catch {
        return { reason: navigator.onLine ? "unavailable" : "offline" };
      }
    }

    /** Show what the server reports of the session. */
    #take(answer) {
      if (STATES[answer.status]?.final) {
        this.#finish(answer);
      } else if (["expired", "revoked"].includes(answer.status) || answer.reason === "ended") {
        this.#show("ended");
        this.#dispatch("error", { reason: "ended" });
      } else if (answer.status) {
        // Examplary has not confirmed the frame's message, and the frame will not repeat it.
        this.#take({ reason: "pending" });
      } else if (answer.reason === "offline") {
        this.#goOffline();
      } else if (STALE.includes(answer.reason)) {
        // The frame may be another user's.
        this.#navigate("about:blank");
        this.#show("stale", answer);
        this.#dispatch("error", answer);
      } else {
        const { detail, reference } = answer;
        this.#show("unverified", { detail, reference });
        this.#dispatch("error", answer);
      }
    }

    #finish(answer) {
      this.#navigate("about:blank");
      this.#show(answer.status);
      if (this.#dispatch(answer.status, answer) && answer.redirect) {
        continueTo(answer.redirect);
      } else if (answer.status === "closed") {
        this.#closeDialog();
      }
    }

    /** Show a problem that the launch had, from the page of ours that the frame shows. */
    #fail(problem) {
      const find = (part) => problem.querySelector(`[data-examplary-${part}]`);
      const text = (part) => find(part)?.textContent ?? "";
      const facts = {
        reason: problem.dataset.examplaryProblem,
        title: text("title"),
        text: text("text"),
        detail: text("detail"),
        reference: find("reference")?.dataset.examplaryReference ?? "",
      };
      if (PASSING.includes(facts.reason) && this.#relaunches < PATIENT_PAUSES.length) {
        this.#launchLater();
        return;
      }
      this.#show(STALE.includes(facts.reason) ? "stale" : "failed", facts);
      this.#dispatch("error", facts);
    }

    #launchLater() {
      if (this.#state !== "loading") {
        this.#show("loading");
      }
      clearTimeout(this.#relaunchTimer);
      this.#relaunchTimer = setTimeout(() => {
        if (navigator.onLine) {
          this.#navigate(this.#launchAddress("launch"));
        } else {
          this.#goOffline();
        }
      }, vary(PATIENT_PAUSES[this.#relaunches++]));
    }

    #goOffline() {
      this.#show("offline");
      this.#dispatch("error", { reason: "offline" });
    }

    #dispatch(name, detail) {
      return this.dispatchEvent(
        new CustomEvent(`examplary:${name}`, { bubbles: true, cancelable: true, detail }),
      );
    }

    // The view

    #show(state, facts = {}) {
      clearTimeout(this.#relaunchTimer);
      this.#state = state;
      this.dataset.state = state;
      reportErrors(() => this.#present(state, facts));
    }

    #present(state, facts) {
      const focused = this.#focused();
      this.#isLeaving &&= STATES[state].listens;
      const panel = this.#isLeaving ? this.#panel : this.#setPanel(state, facts);
      this.#status.textContent = panel ? textOf(panel) : "";
      this.#offerHelp(false);
      this.#awaitSign();
      if (focused && isGone(focused)) {
        // The element with the focus is hidden now, so its replacement gets the focus.
        (panel ?? this.#stage).focus();
      }
    }

    /** Return the element with the focus in here; null if the focus is elsewhere. */
    #focused() {
      if (this.#isTyping || document.activeElement === this.#frame) {
        return this.#frame;
      }
      return this.shadowRoot.activeElement;
    }

    /** Cover the frame with the panel of a state; uncover it for a state that has none. */
    #setPanel(name, facts = {}) {
      this.#panel?.remove();
      const source = this.#template.querySelector(`[data-examplary-state="${name}"]`);
      this.#panel = source && document.importNode(source, true);
      if (this.#panel) {
        this.#adapt(this.#panel);
        this.#fill(this.#panel, facts);
        this.#panel.tabIndex = -1;
        this.#stage.append(this.#panel);
      }
      // A frame beneath a panel is hidden, and can't get the focus.
      this.#slot.style.visibility = this.#panel ? "hidden" : "";
      return this.#panel;
    }

    /** Put texts into a panel; one that has no text of its own is hidden when there is none. */
    #fill(panel, facts) {
      for (const name of ["title", "text", "detail", "reference"]) {
        const place = panel.querySelector(`[data-examplary-${name}]`);
        if (place && facts[name]) {
          place.textContent = facts[name];
        }
        if (place) {
          place.closest("p").hidden = !place.textContent;
        }
      }
    }

    /** Show the line below the frame if there is something in it, and something to use it for. */
    #showBar() {
      const isUsed = STATES[this.#state].bar && !this.#isLeaving;
      this.#bar.hidden = !isUsed || (this.#help.hidden && !this.#done);
      if (this.#done) {
        // Its place is kept, so that the frame stays as it is.
        this.#done.style.visibility = this.#state === "loading" ? "hidden" : "";
      }
    }

    /** Count the grace time from when the frame comes into view. */
    #awaitSign() {
      clearTimeout(this.#graceTimer);
      this.#observer?.disconnect();
      if (STATES[this.#state].silent && !this.#isRestored) {
        this.#whenSeen(() => this.#beginGrace());
      }
    }

    #whenSeen(action) {
      if (!window.IntersectionObserver) {
        action();
        return;
      }
      this.#observer?.disconnect();
      this.#observer = new IntersectionObserver((entries, observer) => {
        if (entries[entries.length - 1].isIntersecting) {
          observer.disconnect();
          action();
        }
      });
      this.#observer.observe(this.#frame);
    }

    #beginGrace() {
      this.#graceTimer = setTimeout(() => {
        if (this.#focused() === this.#frame) {
          // A user who is at work in there sees that all is well.
          this.#beginGrace();
        } else {
          this.#offerHelp(true);
        }
      }, Number(this.dataset.grace) * 1000);
    }

    /** Offer a way out, beside a frame that may or may not be all right. */
    #offerHelp(isNeeded) {
      const isLate = isNeeded && this.#help.hidden;
      this.#help.hidden = !isNeeded;
      this.#showBar();
      if (isLate) {
        this.#status.textContent = textOf(this.#help);
        this.#retry = () => this.#startOver();
      }
    }

    /** Launch again; but if the session is over show that, or the launch would resume it. */
    async #startOver() {
      const { signal } = this.#life;
      const isLoaded = this.#state === "loaded";
      this.#show("loading");
      const answer = isLoaded ? await this.#post("sync") : {};
      if (signal.aborted) {
        return;
      }
      if (STATES[answer.status]?.final) {
        this.#finish(answer);
      } else {
        this.reload();
      }
    }
  }

  /** Update the view; an error there is reported, and never stops the requests for a result. */
  function reportErrors(action) {
    try {
      action();
    } catch (error) {
      setTimeout(() => {
        throw error;
      });
    }
  }

  function findTemplate() {
    return document.querySelector("template[data-examplary-panels]");
  }

  /** Continue to a page of this site; the server gives no other, and none would be followed. */
  function continueTo(address) {
    const url = new URL(address, window.location.href);
    if (url.origin === window.location.origin) {
      window.location.assign(url.href);
    } else {
      console.error("<examplary-embed> does not continue to another site.");
    }
  }

  function sleep(milliseconds, signal) {
    return new Promise((resolve) => {
      const end = () => {
        clearTimeout(timer);
        signal.removeEventListener("abort", end);
        resolve();
      };
      const timer = setTimeout(end, milliseconds);
      signal.addEventListener("abort", end);
    });
  }

  function vary(pause) {
    return pause * (0.75 + Math.random() / 2);
  }

  function isGone(element) {
    return (
      !element.isConnected ||
      !element.getClientRects().length ||
      getComputedStyle(element).visibility === "hidden"
    );
  }

  function textOf(element) {
    const parts = [...element.querySelectorAll("p:not([hidden])")];
    return parts.map((part) => part.textContent.trim()).join(" ");
  }

  if (!customElements.get("examplary-embed")) {
    customElements.define("examplary-embed", ExamplaryEmbed);
  }
  // Elements that come later were not there when the browser went back.
  const settle = () => (isRestoring = false);
  if (document.readyState === "complete") {
    settle();
  } else {
    window.addEventListener("load", () => setTimeout(settle));
  }
})();
