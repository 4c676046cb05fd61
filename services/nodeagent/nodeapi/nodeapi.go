// Package nodeapi answers operators: what this node does, how far it is, and
// why.
//
// It owns nothing: it reads the state, the programmer, the switch and the lease
// store, and asks for an audit. It must not change anything by itself.
package nodeapi

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/damask-sdn/damask/internal/rpcerr"
	nodev1 "github.com/damask-sdn/damask/proto/damask/node/v1"
	"github.com/damask-sdn/damask/services/nodeagent/flowsync"
	"github.com/damask-sdn/damask/services/nodeagent/intent"
	"github.com/damask-sdn/damask/services/nodeagent/lease"
	"github.com/damask-sdn/damask/services/nodeagent/pipeline"
	"github.com/damask-sdn/damask/services/nodeagent/svcsync"
)

// domain is that of the reasons in errors.
const domain = "node.damask"

// Audited is what an audit found and repaired.
type Audited struct {
	FlowsWritten int
	FlowsDeleted int
	Repairs      []string
}

// Plumbing is what the node itself is like at the moment.
type Plumbing struct {
	MTU      int
	Missing  []string // why pods cannot be added; empty: ready
	Repairs  uint64
	Datapath string
}

// switchReader is the part of flowsync that only reads.
type switchReader interface {
	Dump(ctx context.Context) ([]flowsync.InstalledFlow, error)
	Counters() (written, deleted uint64)
	Size() int
}

// serviceReader is the part of svcsync that only reads.
type serviceReader interface {
	Statuses() []svcsync.Status
	WaitProgrammed(ctx context.Context, kind, name string, revision uint64) (followed bool, programmed uint64, err error)
}

// policyWaiter is the part of the agent that follows what policies come down to.
type policyWaiter interface {
	// WaitProgrammed returns when all of it up to a store sequence is in force.
	WaitProgrammed(ctx context.Context, prog *intent.Programmer, sequence uint64) error
}

// Everything that policies come down to, as one object to wait for.
const (
	kindPolicies = "policies"
	namePolicies = "cluster"
)

// Config is what the service answers from. All but Services are required.
type Config struct {
	Node       string
	HostIP     string
	Version    string
	Started    time.Time
	State      *intent.State
	Programmer *intent.Programmer
	Switch     switchReader
	Leases     *lease.Store
	Services   serviceReader // nil: services are somebody else's
	Policies   policyWaiter
	Plumbing   func() Plumbing
	Audit      func(context.Context) (Audited, error)
}

// Server is NodeService.
type Server struct {
	nodev1.UnsafeNodeServiceServer
	Config
}

var _ nodev1.NodeServiceServer = (*Server)(nil)

// New makes the service.
func New(cfg Config) *Server { return &Server{Config: cfg} }

// GetNodeStatus answers the node's state.
func (s *Server) GetNodeStatus(context.Context, *nodev1.GetNodeStatusRequest) (*nodev1.GetNodeStatusResponse, error) {
	plumbing := s.Plumbing()
	written, deleted := s.Switch.Counters()
	answer := &nodev1.NodeStatus{
		Node: s.Node, HostIp: s.HostIP, Version: s.Version, StartTime: timestamppb.New(s.Started),
		DatapathType: plumbing.Datapath, Mtu: uint32(plumbing.MTU), Pods: uint32(len(s.State.Pods())), Flows: uint32(s.Switch.Size()),
		Ready: len(plumbing.Missing) == 0, FlowsWritten: written, FlowsDeleted: deleted, Repairs: plumbing.Repairs,
	}
	if network, known := s.State.Network(); known {
		answer.Subnet = network.Node.Subnet.String()
	}
	for i, missing := range plumbing.Missing {
		if i > 0 {
			answer.NotReadyReason += "; "
		}
		answer.NotReadyReason += missing
	}
	return &nodev1.GetNodeStatusResponse{Status: answer}, nil
}

// ListObjects answers how far the node is with each object.
func (s *Server) ListObjects(context.Context, *nodev1.ListObjectsRequest) (*nodev1.ListObjectsResponse, error) {
	answer := &nodev1.ListObjectsResponse{}
	for _, o := range s.Programmer.Statuses() {
		row := &nodev1.ObjectStatus{
			Kind: o.Kind, Name: o.Name, RevisionWanted: o.Wanted, RevisionProgrammed: o.Programmed, Flows: uint32(o.Flows),
		}
		if o.Err != nil {
			row.Error = o.Err.Error()
		}
		answer.Objects = append(answer.Objects, row)
	}
	answer.Objects = append(answer.Objects, s.serviceObjects()...)
	slices.SortFunc(answer.Objects, func(a, b *nodev1.ObjectStatus) int {
		return cmp.Or(cmp.Compare(a.GetKind(), b.GetKind()), cmp.Compare(a.GetName(), b.GetName()))
	})
	return answer, nil
}

// serviceObjects are the rows of Services and EndpointSlices.
func (s *Server) serviceObjects() []*nodev1.ObjectStatus {
	if s.Services == nil {
		return nil
	}
	var rows []*nodev1.ObjectStatus
	for _, o := range s.Services.Statuses() {
		row := &nodev1.ObjectStatus{Kind: o.Kind, Name: o.Name, RevisionWanted: o.Wanted, RevisionProgrammed: o.Programmed}
		if namespace, name, _ := strings.Cut(o.Name, "/"); o.Kind == svcsync.KindService {
			row.Flows = uint32(s.State.ServiceFlows(namespace, name))
		}
		if o.Err != nil {
			row.Error = o.Err.Error()
		}
		rows = append(rows, row)
	}
	return rows
}

// ListFlows dumps br0 and says whose fragment each flow is.
func (s *Server) ListFlows(ctx context.Context, _ *nodev1.ListFlowsRequest) (*nodev1.ListFlowsResponse, error) {
	installed, err := s.Switch.Dump(ctx)
	if err != nil {
		return nil, rpcerr.New(codes.Unavailable, domain, "NODE_NOT_READY", fmt.Sprintf("dump the flows of br0: %v", err), nil)
	}
	answer := &nodev1.ListFlowsResponse{}
	for _, f := range installed {
		answer.Flows = append(answer.Flows, &nodev1.Flow{
			Table: uint32(f.Flow.Table), Text: f.Flow.String(), Owner: f.Owner,
			Comment: pipeline.Describe(f.Flow), Packets: f.Packets,
		})
	}
	return answer, nil
}

// ListAttachments answers the pods of this node.
func (s *Server) ListAttachments(context.Context, *nodev1.ListAttachmentsRequest) (*nodev1.ListAttachmentsResponse, error) {
	answer := &nodev1.ListAttachmentsResponse{}
	for _, l := range s.Leases.List() {
		answer.Attachments = append(answer.Attachments, l.Attachment)
	}
	return answer, nil
}

// WaitProgrammed answers when the object is in force at the revision.
func (s *Server) WaitProgrammed(ctx context.Context, r *nodev1.WaitProgrammedRequest) (*nodev1.WaitProgrammedResponse, error) {
	var wrong rpcerr.Violations
	if r.GetKind() == "" {
		wrong.Addf("kind", "is required")
	}
	if r.GetName() == "" {
		wrong.Addf("name", "is required")
	}
	if err := wrong.Err(domain); err != nil {
		return nil, err
	}
	if r.GetKind() == kindPolicies && r.GetName() == namePolicies {
		if err := s.Policies.WaitProgrammed(ctx, s.Programmer, r.GetRevision()); err != nil {
			return nil, status.Errorf(codes.DeadlineExceeded, "policies are not in force on %s up to %d: %v", s.Node, r.GetRevision(), err)
		}
		return &nodev1.WaitProgrammedResponse{Followed: true, RevisionProgrammed: r.GetRevision()}, nil
	}
	object := intent.Object{Kind: r.GetKind(), Name: r.GetName()}
	followed, programmed, err := s.wait(ctx, object, r.GetRevision())
	if err != nil {
		return nil, status.Errorf(codes.DeadlineExceeded, "%s %s is at revision %d on %s, not at %d: %v",
			object.Kind, object.Name, programmed, s.Node, r.GetRevision(), err)
	}
	return &nodev1.WaitProgrammedResponse{Followed: followed, RevisionProgrammed: programmed}, nil
}

// wait waits where the object's progress is known.
func (s *Server) wait(ctx context.Context, o intent.Object, revision uint64) (followed bool, programmed uint64, err error) {
	if o.Kind != svcsync.KindService && o.Kind != svcsync.KindEndpointSlice {
		return s.Programmer.WaitProgrammed(ctx, o, revision)
	}
	if s.Services == nil {
		return false, 0, nil
	}
	return s.Services.WaitProgrammed(ctx, o.Kind, o.Name, revision)
}

// Audit compares and repairs now.
func (s *Server) Audit(ctx context.Context, _ *nodev1.AuditRequest) (*nodev1.AuditResponse, error) {
	found, err := s.Config.Audit(ctx)
	if err != nil {
		return nil, rpcerr.New(codes.Unavailable, domain, "NODE_NOT_READY", fmt.Sprintf("compare the node with what it should be: %v", err), nil)
	}
	return &nodev1.AuditResponse{
		FlowsWritten: uint32(found.FlowsWritten), FlowsDeleted: uint32(found.FlowsDeleted), Repairs: found.Repairs,
	}, nil
}
