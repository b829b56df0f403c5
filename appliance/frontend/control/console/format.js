// Numbers and times as people read them.

/** `3.4 GB`, in three figures. */
export function size(bytes) {
  if (bytes === null || bytes === undefined) return "–";
  let value = bytes;
  let at = 0;
  const units = ["B", "KB", "MB", "GB", "TB"];
  while (value >= 999.5 && at + 1 < units.length) [value, at] = [value / 1000, at + 1];
  return `${at && value < 99.95 ? value.toFixed(1) : value.toFixed(0)} ${units[at]}`;
}

/** `84 ms`, `1.24 s`, `3m 05s`. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 0.9995) return `${(seconds * 1000).toFixed(seconds < 0.00995 ? 1 : 0)} ms`;
  if (seconds < 59.95) return `${seconds.toFixed(seconds < 9.995 ? 2 : 1)} s`;
  return age(seconds);
}

/** `12s`, `5m 03s`, `4h 10m`, `3d 2h`. */
export function age(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const two = (value) => String(value).padStart(2, "0");
  if (whole < 60) return `${whole}s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}m ${two(whole % 60)}s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)}h ${two(Math.floor((whole % 3600) / 60))}m`;
  return `${Math.floor(whole / 86400)}d ${Math.floor((whole % 86400) / 3600)}h`;
}

/** Three figures at most: `0`, `0.4`, `12.3`, `1240`. */
export function number(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0 || value >= 99.95) return value.toFixed(0);
  return value >= 9.995 ? value.toFixed(1) : value.toFixed(2).replace(/0$/, "");
}

/** The time of day of a Unix time in seconds. */
export const clock = (at) => new Date(at * 1000).toLocaleTimeString([], { hour12: false });

export const plural = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;
