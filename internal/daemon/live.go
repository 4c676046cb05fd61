package daemon

import (
	"slices"
	"sync"
)

// File is what there is to say of a program's configuration file.
type File struct {
	// Path is where it is.
	Path string
	// Wrong is why it is refused, so that what was read before stays in force; nil: it is
	// good.
	Wrong error
	// Pending are the fields that count from the next start on.
	Pending []string
}

// Live tells parts of a program what becomes of its configuration file while it runs. Of a nil
// Live nobody hears anything.
type Live[C any] struct {
	mu      sync.Mutex
	cfg     *C // read last, if it is another than that of the start
	said    File
	changed []func(C)
	told    []func(File)
}

// OnChange has f called with each configuration that has another value in a field that is
// live, one call at a time: with the last one now, if the program began with another. It must
// not wait.
func (l *Live[C]) OnChange(f func(C)) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changed = append(l.changed, f)
	if l.cfg != nil {
		f(*l.cfg)
	}
}

// OnFile has f called whenever there is something else to say of the file, and now, if there
// is anything. It must not wait.
func (l *Live[C]) OnFile(f func(File)) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.told = append(l.told, f)
	if l.said.Wrong != nil || len(l.said.Pending) > 0 {
		f(l.said)
	}
}

func (l *Live[C]) configure(cfg C) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cfg = &cfg
	for _, f := range l.changed {
		f(cfg)
	}
}

func (l *Live[C]) file(said File) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.said.Wrong == nil && said.Wrong == nil && slices.Equal(l.said.Pending, said.Pending) {
		return
	}
	l.said = said
	for _, f := range l.told {
		f(said)
	}
}
