package registry

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/bucket"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/tenancy/catchup"
)

// A pod is foreign that only the cluster tells of, because no agent has ever reported of its
// node: that is still the network's that was there before. It has no sandbox. What an agent
// reports replaces it in one commit, so that who is selected by policies goes on being so;
// and from then on the node is ours, until it is gone for good: no agent's restart, and no
// pod that an agent has let go of, makes the cluster's word count again.

// reportedKind is the kind of the marks of nodes of which an agent has reported:
// reported.<node>.
const reportedKind = "reported"

// reportedMark is what a mark says.
const reportedMark = "by its agent"

func reportedKey(node string) string { return bucket.Key(reportedKind, node) }

// note marks a node. A mark that is there is not written again.
func note(tx *bucket.Tx, node string) { tx.Put(reportedKey(node), []byte(reportedMark)) }

// ReportFirstError says that a node must report all its pods before it reports one: as far as
// is stored, it is another network's. It was ours already if the store was lost.
type ReportFirstError struct{ Node string }

func (e *ReportFirstError) Error() string {
	return fmt.Sprintf("node %s has pods of which only the cluster has told; all of its pods must be reported first", e.Node)
}

// begins marks a node of which an agent reports one pod. It fails as long as there are others
// of which only the cluster has told: they would be dropped.
func (r *Registry) begins(tx *bucket.Tx, node string) error {
	if !isReported(tx, node) && len(r.index.ForeignOf(node)) > 0 {
		return &ReportFirstError{Node: node}
	}
	note(tx, node)
	return nil
}

// IsForeign says whether a stored pod is one that only the cluster tells of.
func IsForeign(pod *tenancyv1.Pod) bool { return pod.GetSandboxId() == "" }

// IsReported says whether an agent has ever reported of a node.
func (r *Registry) IsReported(node string) bool { return isReported(r.bucket, node) }

func isReported(b bucket.Reader, node string) bool {
	_, marked := b.Get(reportedKey(node))
	return marked
}

// Foreign answers the foreign pods of a node, in order.
func (r *Registry) Foreign(node string) []Name { return r.index.ForeignOf(node) }

// PutForeign stores what the cluster tells of a pod. It changes nothing where an agent has
// reported of that pod, or of its node; pods of a node without a mark that an agent has
// reported, as a version of this service did that made none, say the same of those that are
// not known yet. What is stored already is not written again.
//
// Two commits that do not know of one another may leave a foreign pod on a node that is
// ours since: who sees the mark of a node looks at its foreign pods again, and at each one
// that it sees.
func (r *Registry) PutForeign(ctx context.Context, pod *tenancyv1.Pod) error {
	name := nameOf(pod)
	err := r.changeForeign(ctx, name, func(tx *bucket.Tx, stored *tenancyv1.Pod) {
		if isReported(tx, pod.GetNode()) || stored == nil && r.index.has(pod.GetNode()) {
			return
		}
		next := proto.CloneOf(pod)
		next.SandboxId, next.AttachTime, next.Conditions, next.LabelsUpdated, next.Netid, next.Revision = "", nil, nil, false, nil, 0
		if stored != nil && stored.GetNode() == next.GetNode() && stored.GetConditions() == nil && !stored.GetLabelsUpdated() && same(stored, next) {
			return
		}
		Table().Put(tx, next, name.Namespace, name.Pod)
	})
	if err != nil {
		return fmt.Errorf("store pod %s/%s, of which the cluster tells: %w", name.Namespace, name.Pod, err)
	}
	return nil
}

// DropForeign removes a pod, if it is foreign.
func (r *Registry) DropForeign(ctx context.Context, name Name) error {
	err := r.changeForeign(ctx, name, func(tx *bucket.Tx, stored *tenancyv1.Pod) {
		if stored != nil {
			Table().Delete(tx, name.Namespace, name.Pod)
		}
	})
	if err != nil {
		return fmt.Errorf("drop pod %s/%s, of which the cluster told: %w", name.Namespace, name.Pod, err)
	}
	return nil
}

// changeForeign has change look at what is stored of a pod, nil for nothing, if that is not
// what an agent reported.
func (r *Registry) changeForeign(ctx context.Context, name Name, change func(tx *bucket.Tx, stored *tenancyv1.Pod)) error {
	if err := catchup.Fully(ctx, r.bucket); err != nil {
		return err
	}
	_, err := r.bucket.Update(ctx, func(tx *bucket.Tx) error {
		stored, found, err := Table().Get(tx, name.Namespace, name.Pod)
		switch {
		case err != nil:
			return err
		case !found:
			change(tx, nil)
		case IsForeign(stored):
			change(tx, stored)
		}
		return nil
	})
	return err
}
