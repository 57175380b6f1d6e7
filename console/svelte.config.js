// Runes everywhere: without the older way of writing components the runtime is smaller.
export default { compilerOptions: { runes: true } };
