package kube

import "sync"

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
