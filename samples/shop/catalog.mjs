import { getJson, serve } from './http.mjs';

const reviews = process.env.REVIEWS ?? 'http://reviews:8080';

serve('catalog', 8080, async () => ({
  items: ['lamp', 'chair', 'table'],
  reviews: await getJson(`${reviews}/reviews`),
}));
