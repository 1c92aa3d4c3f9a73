import { createRouter, createWebHistory } from 'vue-router';
import LivePage from './live/LivePage.vue';

// The server answers exactly these paths with the page (control/src/pages.rs).
export const router = createRouter({
  history: createWebHistory(),
  routes: [
    { path: '/', component: LivePage },
    { path: '/watch/:app/:name', component: () => import('./watch/WatchPage.vue'), props: true },
    { path: '/studio', component: () => import('./studio/StudioPage.vue') },
    { path: '/:rest(.*)', redirect: '/' },
  ],
  scrollBehavior: (_to, _from, saved) => saved ?? { top: 0 },
});
