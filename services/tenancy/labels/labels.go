// Package labels changes the labels of an object that is stored.
//
// It owns what a change means: some labels are set, some go, the others stay;
// and the limit of what one object may have. It is pure. Whether labels are
// well formed is package kubesyntax's to say.
package labels

import (
	"fmt"
	"maps"
)

// MaxBytes bounds all labels of one object, keys and values, so that any object
// fits a message on the bus with room to spare.
const MaxBytes = 64 << 10

// Change is which labels an object is to have, and which not.
type Change struct {
	Set    map[string]string
	Remove []string
}

// TooLargeError says that an object would have more than MaxBytes of labels.
type TooLargeError struct{ Bytes int }

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("the labels would have %d bytes in all, at most %d are allowed", e.Bytes, MaxBytes)
}

// Apply answers the labels after the change. Those before are not touched. It
// fails with TooLargeError.
func (c Change) Apply(before map[string]string) (map[string]string, error) {
	after := maps.Clone(before)
	if after == nil {
		after = map[string]string{}
	}
	for _, key := range c.Remove {
		delete(after, key)
	}
	maps.Copy(after, c.Set)
	if size := Size(after); size > MaxBytes {
		return nil, &TooLargeError{Bytes: size}
	}
	return after, nil
}

// Size is how much of MaxBytes labels are.
func Size(labels map[string]string) int {
	size := 0
	for key, value := range labels {
		size += len(key) + len(value)
	}
	return size
}
