package kube

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

// Waiting are the objects that were refused something which may be had later, so that none
// asks again and again, and all are looked at when something becomes free. The zero value is
// ready.
type Waiting struct {
	mu    sync.Mutex
	names map[types.NamespacedName]bool
}

// Set says whether an object waits. It must do so before it asks: what becomes free meanwhile
// would be missed.
func (w *Waiting) Set(name types.NamespacedName, waits bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !waits {
		delete(w.names, name)
		return
	}
	if w.names == nil {
		w.names = map[types.NamespacedName]bool{}
	}
	w.names[name] = true
}

// Has says whether an object waits.
func (w *Waiting) Has(name types.NamespacedName) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.names[name]
}

// All answers all that wait.
func (w *Waiting) All() []types.NamespacedName {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := make([]types.NamespacedName, 0, len(w.names))
	for name := range w.names {
		list = append(list, name)
	}
	return list
}
