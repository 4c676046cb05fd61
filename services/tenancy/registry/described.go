package registry

import (
	"fmt"
	"slices"

	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

// UnknownPodError says that whoever knows a pod's labels has not heard of it yet.
type UnknownPodError struct {
	Name Name
	UID  string // empty: any
}

func (e *UnknownPodError) Error() string {
	if e.UID == "" {
		return fmt.Sprintf("the cluster has not told of pod %s/%s yet; try again", e.Name.Namespace, e.Name.Pod)
	}
	return fmt.Sprintf("the cluster has not told of pod %s/%s with UID %s yet; try again", e.Name.Namespace, e.Name.Pod, e.UID)
}

// HostNetworkError says that a pod is in its node's network, and so not on this one.
type HostNetworkError struct{ Name Name }

func (e *HostNetworkError) Error() string {
	return fmt.Sprintf("pod %s/%s is in its node's network", e.Name.Namespace, e.Name.Pod)
}

// Recall puts into a report the labels and ports that are stored of the same Pod: its
// sandbox is registered, or one before was, or the cluster has told of it, from which on a
// pod of that name on this node that has the address is the one, if its UID is not known.
// It says whether there are any.
func (r *Registry) Recall(report *tenancyv1.Pod) bool {
	stored, found, err := Table().Get(r.bucket, report.GetNamespace(), report.GetName())
	if err != nil || !found {
		return false
	}
	sandbox := stored.GetSandboxId() == report.GetSandboxId() && stored.GetNode() == report.GetNode()
	told := IsForeign(stored) && report.GetUid() == "" && stored.GetNode() == report.GetNode() && slices.Equal(stored.GetIps(), report.GetIps())
	if !sandbox && !told && (report.GetUid() == "" || stored.GetUid() != report.GetUid()) {
		return false
	}
	report.Labels, report.Ports = stored.GetLabels(), stored.GetPorts()
	return true
}
