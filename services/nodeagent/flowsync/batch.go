package flowsync

import (
	"cmp"
	"errors"
	"iter"
	"slices"

	"github.com/damask-sdn/damask/services/nodeagent/openflow"
)

// A batch is changes on their way to the switch. Adds and modifications come before deletes: should a switch ever show
// half a bundle to a packet, then rather a flow too many than one too few.
type batch struct {
	mods    []openflow.Mod
	records []*record // Of the mods, in the same order.
}

// load puts what has to be done into the batch, and marks it as being on its way. It is a batch of at most size changes.
func (t *table) load(b *batch, size int, keys iter.Seq2[openflow.Key, *record]) {
	b.mods, b.records = make([]openflow.Mod, 0, size), make([]*record, 0, size)
	var gone batch
	for key, r := range keys {
		mod, needed := r.need(key)
		if !needed || r.busy {
			continue
		}
		r.busy = true
		to := b
		if mod.Command == openflow.DeleteStrict {
			to = &gone
		}
		to.mods = append(to.mods, mod)
		to.records = append(to.records, r)
	}
	b.mods = append(b.mods, gone.mods...)
	b.records = append(b.records, gone.records...)
}

// settle notes what became of a batch.
func (t *table) settle(b *batch, err error) (written, deleted uint64) {
	for i, r := range b.records {
		r.busy = false
		r.touched = t.audit
		mod := b.mods[i]
		switch {
		case err == nil && mod.Command == openflow.Add:
			t.set(r, current)
			written += r.counts()
		case err == nil:
			t.set(r, absent)
			deleted += r.counts()
		case errors.Is(err, openflow.ErrOutcomeUnknown):
			t.set(r, unclear)
		}
		t.forget(mod.Flow.Key(), r)
	}
	return written, deleted
}

// counts is 1 for a flow that counts as written or deleted.
func (r *record) counts() uint64 {
	if r.stamp {
		return 0
	}
	return 1
}

// sortBatch orders a batch that was loaded in no order, so that what is reported of it can be read.
func sortBatch(b *batch) {
	order := make([]int, len(b.mods))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(x, y int) int {
		return cmp.Or(cmp.Compare(b.mods[x].Command, b.mods[y].Command), b.mods[x].Flow.Key().Compare(b.mods[y].Flow.Key()))
	})
	sorted := batch{mods: make([]openflow.Mod, 0, len(order)), records: make([]*record, 0, len(order))}
	for _, i := range order {
		sorted.mods = append(sorted.mods, b.mods[i])
		sorted.records = append(sorted.records, b.records[i])
	}
	*b = sorted
}
