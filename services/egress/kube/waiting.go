package kube

import (
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

// waiting knows who wants addresses that others have, so that no one asks again and again.
type waiting struct {
	mu     sync.Mutex
	wanted map[string][]string // addresses by namespace
}

// set replaces what a namespace waits for.
func (w *waiting) set(namespace string, ips []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.wanted == nil {
		w.wanted = map[string][]string{}
	}
	if len(ips) == 0 {
		delete(w.wanted, namespace)
		return
	}
	w.wanted[namespace] = ips
}

// of answers who waits for an address.
func (w *waiting) of(ip string) (names []types.NamespacedName) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for namespace, ips := range w.wanted {
		if slices.Contains(ips, ip) {
			names = append(names, types.NamespacedName{Name: namespace})
		}
	}
	return names
}

// hosts remembers which node hosts which address of a namespace, so that a change is told
// once.
type hosts struct {
	mu          sync.Mutex
	byNamespace map[string]map[string]string // node by address
}

func (h *hosts) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.byNamespace = map[string]map[string]string{}
}

// become takes over who hosts the addresses of a namespace now, and answers what was known.
// Of one that nobody hosts now it remembers who did.
func (h *hosts) become(namespace string, now map[string]string) (before map[string]string, known bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.byNamespace == nil {
		h.byNamespace = map[string]map[string]string{}
	}
	before, known = h.byNamespace[namespace]
	for ip, node := range now {
		if node == "" {
			now[ip] = before[ip]
		}
	}
	if now == nil {
		delete(h.byNamespace, namespace)
	} else {
		h.byNamespace[namespace] = now
	}
	return before, known
}
