package registry

import (
	"fmt"

	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

// Listing is a page of pods.
type Listing struct {
	// Pods are in order of namespace and name.
	Pods []*tenancyv1.Pod
	// Next is the last pod of the page, and More says that others follow it.
	Next Name
	More bool
	// Sequence is the store sequence that the page reflects.
	Sequence uint64
}

// List answers up to size pods that pass the filter.
func (r *Registry) List(f Filter, size int) (Listing, error) {
	snapshot := r.bucket.Snapshot()
	names, more := r.index.Page(f, size)
	page := Listing{More: more, Sequence: snapshot.Sequence()}
	for _, name := range names {
		page.Next = name
		// The index may be a change ahead of the snapshot: what is not here yet
		// belongs to a later sequence than the page's.
		pod, found, err := Table().Get(snapshot, name.Namespace, name.Pod)
		if err != nil {
			return Listing{}, fmt.Errorf("list pods: %w", err)
		}
		if found && (f.Node == "" || pod.GetNode() == f.Node) {
			page.Pods = append(page.Pods, pod)
		}
	}
	return page, nil
}
