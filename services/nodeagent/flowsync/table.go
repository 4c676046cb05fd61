package flowsync

import (
	"hash/fnv"
	"slices"

	"github.com/damask-sdn/damask/services/nodeagent/openflow"
)

// A Change replaces all flows of an owner.
type Change struct {
	Owner string          // Such as "pod shop/web".
	Flows []openflow.Flow // None removes the owner. Kept, so not to be changed. Their cookies do not matter.
}

// Cookie is what the flows of an owner are marked with: the FNV-1a hash, of 64 bits, of its name.
func Cookie(owner string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(owner)) // A hash never fails.
	return h.Sum64()
}

// A standing is how the switch stands to what is wanted under a key.
type standing uint8

const (
	absent  standing = iota // The switch has nothing there.
	current                 // The switch has exactly what is wanted.
	differs                 // The switch has something else there.
	unclear                 // A change was committed and its answer is missing.
)

// A record is all that is known of one key.
type record struct {
	owner    *owner            // Who wants a flow there; nil is nobody.
	actions  []openflow.Action // Of the wanted flow.
	standing standing
	busy     bool   // A change of it is on its way to the switch.
	staged   uint64 // The last staging that touched it.
	seen     uint64 // The last comparison that saw it in its dump.
	touched  uint64 // The last comparison during which its standing became known by other means.
	stamp    bool   // It is, or was, of the Stamp: nothing that anybody asked for.
}

func (r *record) present() bool { return r.standing == current || r.standing == differs }

// An owner is somebody who wants flows.
type owner struct {
	name   string
	cookie uint64
	keys   []openflow.Key
	busy   bool // An Apply for it is waiting for the switch.
}

// A table is what is wanted and what is installed. It is pure bookkeeping, under its Syncer's mutex.
type table struct {
	records map[openflow.Key]*record
	owners  map[string]*owner
	present int    // Records that are present.
	staging uint64 // Counts stagings.
	audit   uint64 // Counts comparisons.
	dumping bool   // A comparison is reading its dump.
}

func newTable() table {
	return table{records: map[openflow.Key]*record{}, owners: map[string]*owner{}}
}

// set changes a record's standing and keeps count.
func (t *table) set(r *record, s standing) {
	if r.present() {
		t.present--
	}
	r.standing = s
	if r.present() {
		t.present++
	}
}

// forget drops a record that says nothing any more. While a dump is read it must stay: the dump may be older than the
// deletion, and the flow in it is not a stranger.
func (t *table) forget(key openflow.Key, r *record) {
	if r.owner == nil && r.standing == absent && !t.dumping && !r.busy {
		delete(t.records, key)
	}
}

// A staged key was touched by a staging, and had this before.
type staged struct {
	key     openflow.Key
	record  *record
	owner   *owner
	actions []openflow.Action
	was     standing
}

// A stage is a change of what is wanted that can be undone.
type stage struct {
	touched []staged
	owners  []*owner         // Those whose flows changed.
	keys    [][]openflow.Key // Of those owners, as they were before.
}

// stage makes the changes wanted. The caller has checked them.
func (t *table) stage(changes []Change) *stage {
	t.staging++
	total := 0
	for _, c := range changes {
		total += len(c.Flows)
		if o := t.owners[c.Owner]; o != nil {
			total += len(o.keys)
		}
	}
	st := &stage{touched: make([]staged, 0, total)}
	for _, c := range changes {
		o := t.owners[c.Owner]
		if o == nil {
			o = &owner{name: c.Owner, cookie: Cookie(c.Owner)}
		}
		st.owners = append(st.owners, o)
		st.keys = append(st.keys, o.keys)
		o.keys = make([]openflow.Key, 0, len(c.Flows))
		for _, f := range c.Flows {
			o.keys = append(o.keys, t.claim(st, o, f))
		}
		t.owners[c.Owner] = o
		if len(c.Flows) == 0 {
			delete(t.owners, c.Owner)
		}
	}
	for i, o := range st.owners {
		for _, key := range st.keys[i] {
			if r := t.records[key]; r.owner == o && r.staged != t.staging {
				t.touch(st, key, r)
				t.want(r, nil, nil)
			}
		}
	}
	return st
}

// hold keeps others from changing what was staged while the switch works on it, or lets them: the owners, and keys that
// changed hands, even where there is nothing to send for them. So the staging can be undone.
func (st *stage) hold(busy bool) {
	for _, o := range st.owners {
		o.busy = busy
	}
	for _, s := range st.touched {
		if s.owner != s.record.owner {
			s.record.busy = busy
		}
	}
}

// claim makes f wanted by o, and returns its key as it is kept.
func (t *table) claim(st *stage, o *owner, f openflow.Flow) openflow.Key {
	key := f.Key()
	r := t.records[key]
	if r == nil {
		r = &record{}
		t.records[key] = r
	}
	t.touch(st, key, r)
	if r.owner != o || !slices.Equal(r.actions, f.Actions) {
		t.want(r, o, f.Actions)
	}
	return key
}

func (t *table) touch(st *stage, key openflow.Key, r *record) {
	r.staged = t.staging
	st.touched = append(st.touched, staged{key: key, record: r, owner: r.owner, actions: r.actions, was: r.standing})
}

// want changes what is wanted; what the switch has there is then something else.
func (t *table) want(r *record, o *owner, actions []openflow.Action) {
	r.owner, r.actions = o, actions
	if r.standing == current {
		t.set(r, differs)
	}
}

// undo makes wanted again what was wanted before. It is for when the switch has not changed meanwhile.
func (t *table) undo(st *stage) {
	for _, s := range st.touched {
		s.record.owner, s.record.actions = s.owner, s.actions
		t.set(s.record, s.was)
		t.forget(s.key, s.record)
	}
	for i, o := range st.owners {
		o.keys = st.keys[i]
		t.owners[o.name] = o
		if len(o.keys) == 0 {
			delete(t.owners, o.name)
		}
	}
}

// differing counts the keys of a staging that need something done.
func (st *stage) differing() int {
	n := 0
	for _, s := range st.touched {
		if s.record.differs() {
			n++
		}
	}
	return n
}

// differing counts the keys that need something done.
func (t *table) differing() int {
	n := 0
	for _, r := range t.records {
		if r.differs() {
			n++
		}
	}
	return n
}

// differs reports whether the switch is not known to be as wanted.
func (r *record) differs() bool {
	if r.owner != nil {
		return r.standing != current
	}
	return r.standing != absent
}

// need returns what has to be done to a key, if anything.
func (r *record) need(key openflow.Key) (mod openflow.Mod, needed bool) {
	if !r.differs() {
		return openflow.Mod{}, false
	}
	mod.Command = openflow.DeleteStrict
	mod.Flow = openflow.Flow{Table: key.Table, Priority: key.Priority, Match: key.Match}
	if r.owner != nil {
		mod.Command, mod.Flow.Cookie, mod.Flow.Actions = openflow.Add, r.owner.cookie, r.actions
	}
	return mod, true
}
