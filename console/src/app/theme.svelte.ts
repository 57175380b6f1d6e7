// Light or dark: the system's, until the reader chooses.

const NAME = "theme";
export type Theme = "light" | "dark";

class Appearance {
  theme = $state.raw<Theme>("light");

  start(): void {
    const chosen = localStorage.getItem(NAME);
    const dark = matchMedia("(prefers-color-scheme: dark)");
    this.apply(chosen === "dark" || chosen === "light" ? chosen : dark.matches ? "dark" : "light");
    dark.addEventListener("change", () => {
      if (!localStorage.getItem(NAME)) this.apply(dark.matches ? "dark" : "light");
    });
  }

  switch(): void {
    const next = this.theme === "dark" ? "light" : "dark";
    localStorage.setItem(NAME, next);
    this.apply(next);
  }

  private apply(theme: Theme): void {
    this.theme = theme;
    document.documentElement.dataset.theme = theme;
  }
}

export const appearance = new Appearance();
