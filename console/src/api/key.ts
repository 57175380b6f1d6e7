// The access key, where the gateway wants one: for this tab's session only.

const NAME = "key";
const listeners = new Set<() => void>();

export function keyOf(): string | null {
  return sessionStorage.getItem(NAME);
}

export function setKey(key: string): void {
  sessionStorage.setItem(NAME, key);
  for (const listener of listeners) listener();
}

export function onKey(listener: () => void): void {
  listeners.add(listener);
}

export function authorization(): Record<string, string> {
  const key = keyOf();
  return key ? { Authorization: `Bearer ${key}` } : {};
}
