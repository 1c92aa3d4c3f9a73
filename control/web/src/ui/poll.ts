// Asking again and again, one question at a time, while a component is there.

import { onMounted, onUnmounted, ref, type Ref } from 'vue';

export interface Poll<T> {
  /** The last good answer. */
  value: Ref<T | undefined>;
  /** Why the last question had none. */
  error: Ref<Error | null>;
  /** Asks now. */
  refresh(): Promise<void>;
}

export function usePoll<T>(ask: () => Promise<T>, every_ms: number): Poll<T> {
  const value = ref() as Ref<T | undefined>;
  const error = ref<Error | null>(null);
  let timer: number | undefined;
  let round = 0;

  async function refresh(): Promise<void> {
    clearTimeout(timer);
    round += 1;
    const mine = round;
    try {
      const answer = await ask();
      if (mine !== round) return;
      value.value = answer;
      error.value = null;
    } catch (cause) {
      if (mine !== round) return;
      error.value = cause instanceof Error ? cause : new Error(String(cause));
    }
    timer = window.setTimeout(refresh, every_ms);
  }

  onMounted(refresh);
  onUnmounted(() => {
    round += 1;
    clearTimeout(timer);
  });
  return { value, error, refresh };
}
