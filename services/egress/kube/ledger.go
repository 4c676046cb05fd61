package kube

import (
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/types"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/kube"
)

// ledger knows which objects of a kind the store has anything of, and tells the controller
// of that kind what changes.
type ledger struct {
	*kube.Feed

	mu   sync.Mutex
	keys map[string]types.NamespacedName // the store's, and whose they are
}

func newLedger() *ledger {
	l := &ledger{keys: map[string]types.NamespacedName{}}
	l.Feed = kube.NewFeed(l.all)
	return l
}

// all answers every name of which the store has anything.
func (l *ledger) all() []types.NamespacedName {
	l.mu.Lock()
	defer l.mu.Unlock()
	names := map[types.NamespacedName]bool{}
	for _, name := range l.keys {
		names[name] = true
	}
	list := make([]types.NamespacedName, 0, len(names))
	for name := range names {
		list = append(list, name)
	}
	return list
}

// changed takes over that a key which belongs to an object changed.
func (l *ledger) changed(c bucket.Change, name types.NamespacedName) {
	l.mu.Lock()
	if c.Deleted {
		delete(l.keys, c.Key)
	} else {
		l.keys[c.Key] = name
	}
	l.mu.Unlock()
	l.Changed(name)
}

// forget takes over that nothing that was known holds any more: the store may have lost any
// of it.
func (l *ledger) forget() {
	names := l.all()
	l.mu.Lock()
	clear(l.keys)
	l.mu.Unlock()
	l.Changed(names...)
}

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
func (h *hosts) become(namespace string, now map[string]string) (before map[string]string, known bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.byNamespace == nil {
		h.byNamespace = map[string]map[string]string{}
	}
	before, known = h.byNamespace[namespace]
	if now == nil {
		delete(h.byNamespace, namespace)
	} else {
		h.byNamespace[namespace] = now
	}
	return before, known
}
