// Tells of the steps of something long as they end, with their times.

/** @returns `phase(text, work)`, which runs one step, and the times so far */
export function makePhases(say = console.log) {
  const began = performance.now();
  const times = [];
  const seconds = (since) => ((performance.now() - since) / 1000).toFixed(1);
  return {
    times,
    total: () => seconds(began),
    async phase(text, work) {
      const started = performance.now();
      const done = (mark) => {
        times.push({ text, seconds: seconds(started) });
        say(`${mark} ${seconds(started).padStart(6)} s  ${text}`);
      };
      try {
        const result = await work();
        done('✓');
        return result;
      } catch (error) {
        done('✗');
        throw error;
      }
    },
  };
}
