package server

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/damask-sdn/damask/internal/rpcerr"
	"github.com/damask-sdn/damask/internal/rpcserve"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
	"github.com/damask-sdn/damask/services/egress/spec"
	"github.com/damask-sdn/damask/services/egress/store"
	"github.com/damask-sdn/damask/services/egress/watch"
)

// maxObservations is how many targets a report may have.
const maxObservations = 10_000

// nodes answers EgressNodeService.
type nodes struct {
	egressv1.UnsafeEgressNodeServiceServer

	store *store.Store
	hub   *watch.Hub
}

func (n *nodes) ReportNetworks(ctx context.Context, r *egressv1.ReportNetworksRequest) (*egressv1.ReportNetworksResponse, error) {
	var v rpcerr.Violations
	spec.CheckNetworks(r, &v)
	if err := v.Err(Domain); err != nil {
		return nil, err
	}
	if err := n.store.SetNetworks(ctx, r.GetNode(), r.GetNetworks()); err != nil {
		return nil, status(err)
	}
	return &egressv1.ReportNetworksResponse{}, nil
}

func (n *nodes) ListEgressNodes(ctx context.Context, r *egressv1.ListEgressNodesRequest) (*egressv1.ListEgressNodesResponse, error) {
	q, err := query(r, "nodes", r.GetNodes(), checkNode)
	page, err := answer(ctx, n.store, q, err, n.store.Nodes)
	if err != nil {
		return nil, err
	}
	return &egressv1.ListEgressNodesResponse{EgressNodes: page.Objects, NextPageToken: token(page.Next), Sequence: page.Sequence}, nil
}

// reachability is a node's stream.
type reachability = grpc.BidiStreamingServer[egressv1.ReportReachabilityRequest, egressv1.ReportReachabilityResponse]

func (n *nodes) ReportReachability(stream reachability) error {
	caller, _ := rpcserve.Caller(stream.Context()) // only nodes may call
	session := n.hub.Connect(caller.Name)
	defer session.Close()
	received := make(chan error, 1)
	go func() { received <- receive(stream, session) }()
	for {
		select {
		case err := <-received:
			return err
		case <-stream.Context().Done():
			return nil // the receiver ends with the stream
		case <-session.Ended():
			return nil
		case <-session.Changed():
			if err := stream.Send(n.instruction(session)); err != nil {
				return err
			}
		}
	}
}

// receive takes reports until the stream ends.
func receive(stream reachability, session *watch.Session) error {
	for {
		r, err := stream.Recv()
		if err != nil {
			return nil //nolint:nilerr // the caller knows why it ended
		}
		answers, err := parseReport(r)
		if err != nil {
			return err
		}
		session.Report(answers, r.GetHostingRevision(), r.GetAsksToHost())
	}
}

func parseReport(r *egressv1.ReportReachabilityRequest) (map[string]bool, error) {
	var v rpcerr.Violations
	if len(r.GetObservations()) > maxObservations {
		v.Addf("observations", "%d targets, at most %d are allowed", len(r.GetObservations()), maxObservations)
		return nil, v.Err(Domain)
	}
	answers := map[string]bool{}
	for i, o := range r.GetObservations() {
		field := fmt.Sprintf("observations[%d].target", i)
		spec.CheckNode(field, o.GetTarget(), &v)
		if _, twice := answers[o.GetTarget()]; twice {
			v.Addf(field, "%q occurs twice", o.GetTarget())
		}
		answers[o.GetTarget()] = o.GetReachable()
	}
	return answers, v.Err(Domain)
}

// instruction is what a node is told: whom to watch, and if this replica decides, who
// watches it and whether it may host.
func (n *nodes) instruction(session *watch.Session) *egressv1.ReportReachabilityResponse {
	rules, told := n.hub.Rules(), session.Instruction()
	r := &egressv1.ReportReachabilityResponse{
		ProbeInterval: durationpb.New(rules.Probe), Patience: durationpb.New(rules.Patience), ReportInterval: durationpb.New(rules.Report),
		Fence: durationpb.New(rules.Fence), Targets: reachabilityTargets(told.Targets),
	}
	if told.Decides {
		r.Observers, r.MayHost = &egressv1.EgressObservers{Observers: reachabilityTargets(told.Observers)}, told.MayHost
	}
	return r
}

func reachabilityTargets(nodes []watch.Target) []*egressv1.ReachabilityTarget {
	list := make([]*egressv1.ReachabilityTarget, 0, len(nodes))
	for _, t := range nodes {
		list = append(list, &egressv1.ReachabilityTarget{Node: t.Node, Address: t.Address.String()})
	}
	return list
}
