package bucket

import (
	"bytes"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
)

// Tx is one attempt of a transaction. It reads a snapshot with writes on top:
// its own, and those of transactions that are to be committed together with it
// and before it. It is for one goroutine.
type Tx struct {
	snapshot Snapshot
	writes   map[string]*write
	journal  []undo
	problem  error
}

type write struct {
	key      string
	value    []byte
	deleted  bool
	expected uint64
	step     int
}

// undo is what writes had for a key before a step; nil: nothing.
type undo struct {
	key string
	old *write
}

func newTx(s Snapshot) *Tx { return &Tx{snapshot: s, writes: make(map[string]*write)} }

// Sequence answers the store sequence of the snapshot that the attempt reads.
func (tx *Tx) Sequence() uint64 { return tx.snapshot.sequence }

// run runs a transaction's function in this attempt.
func (tx *Tx) run(fn func(tx *Tx) error) error {
	err := fn(tx)
	if err == nil && tx.problem != nil {
		err = fmt.Errorf("transaction: %w", tx.problem)
	}
	tx.problem = nil
	return err
}

// rollback undoes the steps after the first n.
func (tx *Tx) rollback(n int) {
	for len(tx.journal) > n {
		last := tx.journal[len(tx.journal)-1]
		tx.journal = tx.journal[:len(tx.journal)-1]
		if last.old == nil {
			delete(tx.writes, last.key)
		} else {
			tx.writes[last.key] = last.old
		}
	}
}

// Get answers the entry of a key, if the key exists. An entry that is not in
// the store yet has revision 0.
func (tx *Tx) Get(key string) (Entry, bool) {
	if w := tx.writes[key]; w != nil {
		return Entry{Key: key, Value: w.value}, !w.deleted
	}
	return tx.snapshot.Get(key)
}

// Put writes a key. Writing what the snapshot holds already changes nothing.
// The value belongs to the transaction from here on. A key that CheckKey
// refuses makes the whole transaction fail.
func (tx *Tx) Put(key string, value []byte) {
	if old, exists := tx.snapshot.Get(key); exists && bytes.Equal(old.Value, value) {
		tx.unstage(key)
		return
	}
	tx.stage(&write{key: key, value: value})
}

// Delete removes a key. Removing one that does not exist changes nothing.
func (tx *Tx) Delete(key string) {
	if _, exists := tx.snapshot.Get(key); !exists {
		tx.unstage(key)
		return
	}
	tx.stage(&write{key: key, deleted: true})
}

// Touch writes an existing key as it is, so that the commit fails if somebody
// changes it meanwhile: by this a transaction guards what it only read. It
// costs a change on the bus. Touching a key that does not exist is an error of
// the transaction.
func (tx *Tx) Touch(key string) {
	if w := tx.writes[key]; w != nil {
		return
	}
	e, exists := tx.snapshot.Get(key)
	if !exists {
		tx.Fail(fmt.Errorf("touch %q: no such key", key))
		return
	}
	tx.stage(&write{key: key, value: e.Value})
}

// Fail makes the transaction fail with err, unless it failed before.
func (tx *Tx) Fail(err error) {
	if tx.problem == nil {
		tx.problem = err
	}
}

func (tx *Tx) stage(w *write) {
	if err := CheckKey(w.key); err != nil {
		tx.Fail(err)
		return
	}
	w.expected = tx.snapshot.expectation(w.key)
	w.step = len(tx.journal)
	tx.journal = append(tx.journal, undo{key: w.key, old: tx.writes[w.key]})
	tx.writes[w.key] = w
}

func (tx *Tx) unstage(key string) {
	if old := tx.writes[key]; old != nil {
		tx.journal = append(tx.journal, undo{key: key, old: old})
		delete(tx.writes, key)
	}
}

// staged answers the writes in the order in which they were made.
func (tx *Tx) staged() []*write {
	staged := slices.Collect(maps.Values(tx.writes))
	slices.SortFunc(staged, func(a, b *write) int { return a.step - b.step })
	return staged
}

// List answers the entries whose keys begin with prefix, in order of key.
func (tx *Tx) List(prefix string) []Entry { return slices.Collect(tx.Scan(prefix, "")) }

// Scan answers the entries whose keys begin with prefix and are greater than
// after, in order of key, with the writes so far on top. Writes made while
// the scan runs do not show in it.
func (tx *Tx) Scan(prefix, after string) iter.Seq[Entry] {
	var own []string
	for key := range tx.writes {
		if strings.HasPrefix(key, prefix) && key > after {
			own = append(own, key)
		}
	}
	if len(own) == 0 {
		return tx.snapshot.Scan(prefix, after)
	}
	slices.Sort(own)
	merged := make([]Entry, 0, len(own))
	for _, key := range own {
		if e, exists := tx.Get(key); exists {
			merged = append(merged, e)
		}
	}
	return func(yield func(Entry) bool) { mergeScan(merged, own, tx.snapshot.Scan(prefix, after), yield) }
}

// mergeScan yields stored entries without the hidden keys, and the own ones
// among them, all in order.
func mergeScan(own []Entry, hidden []string, stored iter.Seq[Entry], yield func(Entry) bool) {
	for e := range stored {
		for len(own) > 0 && own[0].Key <= e.Key {
			next := own[0]
			own = own[1:]
			if !yield(next) {
				return
			}
		}
		if _, replaced := slices.BinarySearch(hidden, e.Key); replaced {
			continue
		}
		if !yield(e) {
			return
		}
	}
	for _, e := range own {
		if !yield(e) {
			return
		}
	}
}
