// The console: one page, kept small; every screen is loaded when it is first gone to.

import { mount } from "svelte";
import App from "./app/App.svelte";
import { appearance } from "./app/theme.svelte.ts";
import { live } from "./live/live.svelte.ts";
import { text } from "./text/text.svelte.ts";
import "./style/tokens.css";
import "./style/base.css";

appearance.start();
void live.start();
await text.start();
const target = document.getElementById("app");
if (target) mount(App, { target });
