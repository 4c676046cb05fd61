package kube

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

// waiting are the nodes that were refused a subnet: when something changes in the store, which
// may have been in their way, they are looked at again.
type waiting struct {
	mu    sync.Mutex
	names map[string]bool
}

// set says whether a node waits.
func (w *waiting) set(name string, waits bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !waits {
		delete(w.names, name)
		return
	}
	if w.names == nil {
		w.names = map[string]bool{}
	}
	w.names[name] = true
}

func (w *waiting) all() []types.NamespacedName {
	w.mu.Lock()
	defer w.mu.Unlock()
	var names []types.NamespacedName
	for name := range w.names {
		names = append(names, types.NamespacedName{Name: name})
	}
	return names
}
