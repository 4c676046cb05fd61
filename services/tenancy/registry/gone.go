package registry

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/services/tenancy/catchup"
)

// goneKind is the kind of the marks that nodes get before their pods are
// dropped: gone.<node>.
const goneKind = "gone"

// Suspicion is that a node is gone for good. It is dropped upon in three steps:
//
//  1. Suspect leaves a mark in the store.
//  2. The caller sees, after that, that the node is not registered with ipam.
//  3. Drop removes the pods that were stored before the mark, if it still stands.
//
// A node that comes back registers first and then reports all its pods (Sync),
// which wipes the mark away. If its report began before the mark was there, so
// did its registration, and step 2 sees it. If it began later, it finds the
// mark, and Drop does not; or Drop came first, and the report stores again what
// was dropped. So no pod of a node that came back is ever missing after its
// report. Any number of replicas may do this at once: they share the mark.
type Suspicion struct {
	node   string
	mark   string // what the mark says; another mark says something else
	before uint64 // pods stored later than this are not meant
}

// Nodes answers the nodes of which agents have reported, in order.
func (r *Registry) Nodes() []string { return r.index.Nodes() }

// Suspect begins to drop what agents have reported of a node. It answers false when that is
// nothing.
func (r *Registry) Suspect(ctx context.Context, node string) (Suspicion, bool, error) {
	if err := catchup.Fully(ctx, r.bucket); err != nil {
		return Suspicion{}, false, fmt.Errorf("mark node %s as gone: %w", node, err)
	}
	names, fresh := r.index.OfNode(node), rand.Text()
	if !r.index.has(node) {
		return Suspicion{}, false, nil
	}
	_, err := r.bucket.Update(ctx, func(tx *bucket.Tx) error {
		newest := uint64(0)
		for _, name := range names {
			if e, found := tx.Get(Table().Key(name.Namespace, name.Pod)); found {
				newest = max(newest, e.Revision)
			}
		}
		// Another replica's mark is as good as one of our own.
		if e, found := tx.Get(goneKey(node)); !found || e.Revision < newest {
			tx.Put(goneKey(node), markText(fresh, 0))
		}
		return nil
	})
	if err != nil {
		return Suspicion{}, false, fmt.Errorf("mark node %s as gone: %w", node, err)
	}
	e, found := r.bucket.Get(goneKey(node))
	if !found {
		return Suspicion{}, false, nil // wiped away already, or the pods are dropped
	}
	mark, _ := readMark(e.Value)
	return Suspicion{node: node, mark: mark, before: e.Revision}, true, nil
}

// Drop removes the pods of a suspicion that was confirmed, and answers how many.
// It removes nothing more as soon as the mark is gone: the node reported, or
// another replica was faster.
func (r *Registry) Drop(ctx context.Context, s Suspicion) (int, error) {
	total := 0
	parts := slices.Collect(slices.Chunk(r.index.OfNode(s.node), chunk))
	if len(parts) == 0 {
		parts = [][]Name{nil}
	}
	for i, part := range parts {
		dropped, stands := 0, false
		_, err := r.bucket.Update(ctx, func(tx *bucket.Tx) error {
			var err error
			dropped, stands, err = s.stage(tx, part, i == len(parts)-1)
			return err
		})
		if err != nil {
			return total, fmt.Errorf("drop pods of node %s: %w", s.node, err)
		}
		if total += dropped; !stands {
			break
		}
	}
	return total, nil
}

// stage removes some pods, and the mark with the last of them. It writes the
// mark in any case, so that the commit fails when the node reports meanwhile.
func (s Suspicion) stage(tx *bucket.Tx, names []Name, last bool) (dropped int, stands bool, err error) {
	e, found := tx.Get(goneKey(s.node))
	mark, steps := readMark(e.Value)
	if !found || mark != s.mark {
		return 0, false, nil
	}
	for _, name := range names {
		pod, found, err := Table().Get(tx, name.Namespace, name.Pod)
		if err != nil {
			return 0, true, err
		}
		// Revision 0: it is being stored in this very commit.
		if found && !IsForeign(pod) && pod.GetNode() == s.node && pod.GetRevision() != 0 && pod.GetRevision() < s.before {
			dropped++
			Table().Delete(tx, name.Namespace, name.Pod)
		}
	}
	if last {
		tx.Delete(goneKey(s.node))
		if e, found := tx.Get(reportedKey(s.node)); found && e.Revision != 0 && e.Revision < s.before {
			tx.Delete(reportedKey(s.node))
		}
	} else {
		tx.Put(goneKey(s.node), markText(mark, steps+1))
	}
	return dropped, true, nil
}

// wipe removes a node's mark: it is there.
func wipe(tx *bucket.Tx, node string) { tx.Delete(goneKey(node)) }

func goneKey(node string) string { return bucket.Key(goneKind, node) }

// markText is what a mark says: who made it, and how many steps were taken
// since, by which each step changes it.
func markText(mark string, steps int) []byte { return []byte(mark + " " + strconv.Itoa(steps)) }

func readMark(text []byte) (mark string, steps int) {
	mark, count, _ := strings.Cut(string(text), " ")
	steps, _ = strconv.Atoi(count) // what is no number counts from 0
	return mark, steps
}
