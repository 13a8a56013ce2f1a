import { getJson, serve } from './http.mjs';

const catalog = process.env.CATALOG ?? 'http://catalog:8080';
const cart = process.env.CART ?? 'http://cart:8080';

serve('frontend', 8080, async (url) => {
  if (url.pathname !== '/') return {};
  const [items, basket] = await Promise.all([getJson(`${catalog}/items`), getJson(`${cart}/cart`)]);
  return { catalog: items, cart: basket };
});
