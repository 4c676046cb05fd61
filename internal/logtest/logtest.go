// Package logtest has what tests need to read what a program logs.
//
// It owns a writer for loggers. It promises that what was logged can be read while more is
// written. It must not be used outside of tests.
package logtest

import (
	"strings"
	"sync"
)

// Lines is a log that may be read while it is written. The zero value is empty.
type Lines struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write adds to the log. It never fails.
func (l *Lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// String answers all that was written so far.
func (l *Lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
