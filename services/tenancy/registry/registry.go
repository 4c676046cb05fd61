// Package registry knows which pods are on the network, and where.
//
// It owns the keys pod.<namespace>.<name>, gone.<node> and reported.<node>. It promises that of
// two sandboxes of one pod the newer stays, whichever report comes last; that a report
// which says what is known already writes nothing; and that of a node of which an agent has
// ever reported nobody else's word is taken (see PutForeign). It must not be needed for a pod
// to get its network: agents report when they can.
package registry

import (
	"context"
	"fmt"
	"time"

	"github.com/damask-sdn/damask/internal/bucket"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/tenancy/catchup"
)

// chunk is how many pods one transaction writes at most, well below the
// store's limit. A node's report needs no more to be atomic than its pods are.
const chunk = 500

// Registry stores what agents report. It is safe for concurrent use.
type Registry struct {
	bucket *bucket.Bucket
	index  *Index
	now    func() time.Time
}

// New returns the registry of a bucket of whose changes index is told. now is
// the clock for reports without a time.
func New(b *bucket.Bucket, index *Index, now func() time.Time) *Registry {
	return &Registry{bucket: b, index: index, now: now}
}

// Table is the stored pods, for who reads a snapshot.
func Table() bucket.Table[*tenancyv1.Pod] { return bucket.NewTable[*tenancyv1.Pod](kind) }

// InNamespace counts the pods of a namespace, as a transaction sees them, and
// answers one of them.
func InNamespace(tx *bucket.Tx, namespace string) (int, *tenancyv1.Pod) {
	count, example := 0, (*tenancyv1.Pod)(nil)
	for pod, err := range Table().ScanUnder(tx, namespace) {
		count++
		if example == nil && err == nil {
			example = pod
		}
	}
	return count, example
}

// Register stores a pod, and answers what is stored under its name then: the
// report, or a newer sandbox on another node. It fails with ReportFirstError.
func (r *Registry) Register(ctx context.Context, report *tenancyv1.Pod) (*tenancyv1.Pod, error) {
	if err := catchup.Fully(ctx, r.bucket); err != nil {
		return nil, fmt.Errorf("register pod %s/%s: %w", report.GetNamespace(), report.GetName(), err)
	}
	now := r.now()
	var decided *tenancyv1.Pod
	sequence, err := r.bucket.Update(ctx, func(tx *bucket.Tx) error {
		if err := r.begins(tx, report.GetNode()); err != nil {
			return err
		}
		stored, found, err := Table().Get(tx, report.GetNamespace(), report.GetName())
		if err != nil {
			return err
		}
		if !found {
			stored = nil
		}
		decided = stored
		if verdict, next := judge(stored, report, now); verdict == replaces {
			decided = next
			Table().Put(tx, next, next.GetNamespace(), next.GetName())
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("register pod %s/%s: %w", report.GetNamespace(), report.GetName(), err)
	}
	if decided.GetRevision() == 0 {
		decided.Revision = r.bucket.RevisionSince(Table().Key(report.GetNamespace(), report.GetName()), sequence)
	}
	return decided, nil
}

// Sandbox names a sandbox of a pod on a node.
type Sandbox struct {
	Namespace, Name, Node, ID string
}

// Unregister removes a pod if it is this sandbox. It fails with ReportFirstError.
func (r *Registry) Unregister(ctx context.Context, s Sandbox) error {
	if err := catchup.Fully(ctx, r.bucket); err != nil {
		return fmt.Errorf("unregister pod %s/%s: %w", s.Namespace, s.Name, err)
	}
	_, err := r.bucket.Update(ctx, func(tx *bucket.Tx) error {
		if err := r.begins(tx, s.Node); err != nil {
			return err
		}
		stored, found, err := Table().Get(tx, s.Namespace, s.Name)
		if err != nil {
			return err
		}
		if found && stored.GetSandboxId() == s.ID && stored.GetNode() == s.Node {
			Table().Delete(tx, s.Namespace, s.Name)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("unregister pod %s/%s: %w", s.Namespace, s.Name, err)
	}
	return nil
}

// Counts is what a node's report changed.
type Counts struct {
	Written, Removed, Superseded int
}

func (c *Counts) add(other Counts) {
	c.Written += other.Written
	c.Removed += other.Removed
	c.Superseded += other.Superseded
}

// Sync makes the registry hold, for a node, the given pods and no others. Each
// pod is of that node and occurs once.
func (r *Registry) Sync(ctx context.Context, node string, pods []*tenancyv1.Pod) (Counts, error) {
	var total Counts
	if err := catchup.Fully(ctx, r.bucket); err != nil {
		return total, fmt.Errorf("sync pods of node %s: %w", node, err)
	}
	now := r.now()
	for p := range r.parts(node, pods) {
		var counts Counts
		_, err := r.bucket.Update(ctx, func(tx *bucket.Tx) error {
			var err error
			if counts, err = stage(tx, node, now, p); err == nil && p.last {
				note(tx, node) // Before, the cluster's word holds for what comes in a later part.
			}
			return err
		})
		if err != nil {
			return total, fmt.Errorf("sync pods of node %s: %w", node, err)
		}
		total.add(counts)
	}
	return total, nil
}

// stage writes what differs of some reported pods, and removes some that are
// not reported, if they are still this node's. Whoever means to drop the node's
// pods learns that it is there: see Suspicion.
func stage(tx *bucket.Tx, node string, now time.Time, p part) (Counts, error) {
	var counts Counts
	wipe(tx, node)
	for _, report := range p.reports {
		stored, found, err := Table().Get(tx, report.GetNamespace(), report.GetName())
		if err != nil {
			return counts, err
		}
		if !found {
			stored = nil
		}
		switch verdict, next := judge(stored, report, now); verdict {
		case unchanged:
		case superseded:
			counts.Superseded++
		case replaces:
			counts.Written++
			Table().Put(tx, next, next.GetNamespace(), next.GetName())
		}
	}
	for _, name := range p.gone {
		stored, found, err := Table().Get(tx, name.Namespace, name.Pod)
		if err != nil {
			return counts, err
		}
		if found && stored.GetNode() == node {
			counts.Removed++
			Table().Delete(tx, name.Namespace, name.Pod)
		}
	}
	return counts, nil
}
