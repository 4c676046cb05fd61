package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/damask-sdn/damask/cmd/damask/internal/adopt"
	"github.com/damask-sdn/damask/cmd/damask/internal/adopt/compare"
	"github.com/damask-sdn/damask/cmd/damask/internal/openshift"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
)

// judge looks at a node once more before it is changed: hours may have passed since the
// check. The error has everything that speaks against it.
func (t *takeover) judge(ctx context.Context, was openshift.Node) (openshift.Node, error) {
	ctx, cancel := context.WithTimeout(ctx, changeTime)
	defer cancel()
	node, cluster, err := t.client.Again(ctx, t.cluster, was.Name)
	if err != nil {
		return was, err
	}
	t.cluster = cluster
	var problems []error
	if node.UID != was.UID {
		problems = append(problems, errors.New("it is another machine than when this began"))
	}
	if node.Agent != "" && node.Agent != openshift.Damask {
		problems = append(problems, fmt.Errorf("its label %s is %q: somebody else says whose agent runs there", openshift.AgentLabel, node.Agent))
	}
	for _, f := range adopt.Check(cluster).Findings {
		if f.Verdict == adopt.Lost {
			problems = append(problems, fmt.Errorf("%s %s would be lost: %s", f.Kind, f.Name, f.Reason))
		}
	}
	stores, err := t.session.storesOf(ctx, was.Name)
	if err != nil {
		return node, err
	}
	for _, d := range compare.Node(cluster, stores, was.Name) {
		problems = append(problems, fmt.Errorf("%s %s says %s %q, and Damask has %q", d.Kind, d.Name, d.Field, d.Object, d.Damask))
	}
	return node, errors.Join(problems...)
}

// storesOf reads what Damask has of one node.
func (s *session) storesOf(ctx context.Context, node string) (all compare.Stores, err error) {
	subnet, err := s.subnets.GetHostSubnet(ctx, &ipamv1.GetHostSubnetRequest{Node: node})
	if err != nil {
		return all, err
	}
	all.HostSubnets = []*ipamv1.HostSubnet{subnet.GetHostSubnet()}
	if len(s.cluster.Egress) > 0 {
		all.NodeEgress, err = s.nodeEgress(ctx, node)
	}
	return all, err
}

// isReady says whether a node's agent runs and has everything in force.
func (s *session) isReady(ctx context.Context, node string) bool {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	subnet, err := s.subnets.GetHostSubnet(ctx, &ipamv1.GetHostSubnetRequest{Node: node})
	if err != nil {
		return false // the takeover says more of it
	}
	return s.nodeStatuses(ctx, []*ipamv1.HostSubnet{subnet.GetHostSubnet()})[0].GetReady()
}
