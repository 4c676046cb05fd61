package bucket

// Change is a key that was written or deleted.
type Change struct {
	Entry
	// Deleted says that the key is gone; Value is empty then.
	Deleted bool
}

// Observer is told of every change of the view, in order and before the view
// shows it, so that indexes over the bucket are never behind an answer. The
// changes of one call belong together. After a reset they are all the keys
// that exist: whatever was told before no longer holds. It is called by one
// goroutine at a time, and must not call the bucket.
type Observer func(changes []Change, reset bool)

// tell tells the observer, if there is one.
func (v *view) tell(items []item, reset bool) {
	if v.observe == nil {
		return
	}
	changes := make([]Change, len(items))
	for i, it := range items {
		changes[i] = Change{Entry: Entry{Key: it.key, Value: it.value, Revision: it.revision}, Deleted: it.deleted}
	}
	v.observe(changes, reset)
}
