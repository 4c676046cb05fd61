package registry

import (
	"iter"
	"slices"

	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

// parts cuts a node's report into what single transactions write: reported
// pods, and names that the node has in the registry but did not report.
func (r *Registry) parts(node string, pods []*tenancyv1.Pod) iter.Seq2[[]*tenancyv1.Pod, []Name] {
	reported := make(map[Name]bool, len(pods))
	for _, pod := range pods {
		reported[nameOf(pod)] = true
	}
	gone := slices.DeleteFunc(r.index.OfNode(node), func(n Name) bool { return reported[n] })
	return func(yield func([]*tenancyv1.Pod, []Name) bool) {
		for part := range slices.Chunk(pods, chunk) {
			if !yield(part, nil) {
				return
			}
		}
		for part := range slices.Chunk(gone, chunk) {
			if !yield(nil, part) {
				return
			}
		}
	}
}
