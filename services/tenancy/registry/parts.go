package registry

import (
	"iter"
	"slices"

	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

// part is what of a node's report one transaction writes.
type part struct {
	reports []*tenancyv1.Pod
	gone    []Name // that the node has in the registry, and did not report
	last    bool
}

// parts cuts a node's report. There is one part at least: that a node has no pods is a
// report too.
func (r *Registry) parts(node string, pods []*tenancyv1.Pod) iter.Seq[part] {
	reported := make(map[Name]bool, len(pods))
	for _, pod := range pods {
		reported[nameOf(pod)] = true
	}
	gone := slices.DeleteFunc(r.index.OfNode(node), func(n Name) bool { return reported[n] })
	var all []part
	for some := range slices.Chunk(pods, chunk) {
		all = append(all, part{reports: some})
	}
	for some := range slices.Chunk(gone, chunk) {
		all = append(all, part{gone: some})
	}
	if len(all) == 0 {
		all = []part{{}}
	}
	all[len(all)-1].last = true
	return slices.Values(all)
}
