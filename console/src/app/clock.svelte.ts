// The time, once a second, for whoever shows how long something has been going on.

class Clock {
  now = $state.raw(Date.now());

  constructor() {
    setInterval(() => {
      if (!document.hidden) this.now = Date.now();
    }, 1_000);
  }
}

export const clock = new Clock();
