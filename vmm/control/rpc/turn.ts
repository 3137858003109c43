/**
 * Runs `action` in a turn of the event loop of its own. Node runs ticks and promise jobs while nghttp2 is still reading the
 * frame that caused them; a stream that is reset there, alone or with its session, is freed under nghttp2's hands, and the
 * process's memory is corrupt (nodejs/node#64113). So whatever may reset a stream goes through here.
 */
export function inOwnTurn(action: () => void): void {
  setImmediate(action);
}
