package registry

import (
	"maps"
	"slices"
	"time"

	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// verdict is what a report means for the registry.
type verdict int

const (
	unchanged  verdict = iota // it says what is stored
	replaces                  // it is to be stored
	superseded                // another node has a newer sandbox of the pod
)

// judge compares a report with what is stored under its name, nil for nothing,
// and answers what is to be stored if the verdict is replaces. now stands for
// the time of a report that has none.
func judge(stored, report *tenancyv1.Pod, now time.Time) (verdict, *tenancyv1.Pod) {
	next := proto.CloneOf(report)
	next.Netid = nil // of its namespace, not of the pod
	next.Conditions, next.LabelsUpdated = nil, false
	next.Revision = 0
	for _, port := range next.GetPorts() {
		if port.GetProtocol() == tenancyv1.Protocol_PROTOCOL_UNSPECIFIED {
			port.Protocol = tenancyv1.Protocol_PROTOCOL_TCP
		}
	}
	switch {
	case stored == nil:
	case IsForeign(stored):
		// Whoever has the pod's port knows more of it than the cluster.
	case stored.GetSandboxId() == report.GetSandboxId() && stored.GetNode() == report.GetNode():
		// The same sandbox was attached once: a report without the time does
		// not change what is known of it. Nor does any report change what somebody
		// else said of the pod.
		if next.GetAttachTime() == nil {
			next.AttachTime = stored.GetAttachTime()
		}
		next.Conditions = stored.GetConditions()
		if stored.GetLabelsUpdated() {
			next.Labels, next.LabelsUpdated = stored.GetLabels(), true
		}
		if same(stored, next) {
			return unchanged, nil
		}
	case stored.GetNode() == report.GetNode():
		// A node knows best which of its own sandboxes lives.
	case attached(stored, now).After(attached(report, now)):
		return superseded, nil
	}
	if next.GetAttachTime() == nil {
		next.AttachTime = timestamppb.New(now)
	}
	return replaces, next
}

// attached is when a pod's sandbox was attached.
func attached(pod *tenancyv1.Pod, unknown time.Time) time.Time {
	if pod.GetAttachTime() == nil {
		return unknown
	}
	return pod.GetAttachTime().AsTime()
}

// same compares what a node reports of one sandbox.
func same(a, b *tenancyv1.Pod) bool {
	return slices.Equal(a.GetIps(), b.GetIps()) &&
		maps.Equal(a.GetLabels(), b.GetLabels()) &&
		a.GetZone() == b.GetZone() && a.GetUid() == b.GetUid() &&
		slices.EqualFunc(a.GetPorts(), b.GetPorts(), func(p, q *tenancyv1.ContainerPort) bool { return proto.Equal(p, q) }) &&
		attached(a, time.Time{}).Equal(attached(b, time.Time{}))
}
