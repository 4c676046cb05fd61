package serviceview_test

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/damask-sdn/damask/internal/serviceview"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
)

// oracle is what kube-proxy decides, written in its own order of questions: the
// mode of topology first, then cluster endpoints, then local ones.
type oracle struct {
	endpoints []*servicelbv1.Endpoint
	node      serviceview.Node
}

func isReady(e *servicelbv1.Endpoint) bool {
	return e.GetConditions() == nil || e.GetConditions().GetReady()
}

func isServingTerminating(e *servicelbv1.Endpoint) bool {
	return !isReady(e) && e.GetConditions().GetServing() && e.GetConditions().GetTerminating()
}

func (o oracle) isLocal(e *servicelbv1.Endpoint) bool { return e.GetNodeName() == o.node.Name }

func (o oracle) hintMode() string {
	allNodes, someNode, allZones, someZone := true, false, true, false
	for _, e := range o.endpoints {
		if !isReady(e) {
			continue
		}
		allNodes = allNodes && len(e.GetHints().GetForNodes()) > 0
		allZones = allZones && len(e.GetHints().GetForZones()) > 0
		someNode = someNode || slices.Contains(e.GetHints().GetForNodes(), o.node.Name)
		someZone = someZone || slices.Contains(e.GetHints().GetForZones(), o.node.Zone)
	}
	switch {
	case allNodes && someNode:
		return "node"
	case allZones && someZone:
		return "zone"
	}
	return ""
}

func (o oracle) cluster() []string {
	mode := o.hintMode()
	chosen := o.pick(func(e *servicelbv1.Endpoint) bool {
		switch {
		case !isReady(e):
			return false
		case mode == "node":
			return slices.Contains(e.GetHints().GetForNodes(), o.node.Name)
		case mode == "zone":
			return slices.Contains(e.GetHints().GetForZones(), o.node.Zone)
		}
		return true
	})
	if len(chosen) == 0 {
		chosen = o.pick(isServingTerminating)
	}
	return chosen
}

func (o oracle) local() []string {
	chosen := o.pick(func(e *servicelbv1.Endpoint) bool { return o.isLocal(e) && isReady(e) })
	if len(chosen) == 0 {
		chosen = o.pick(func(e *servicelbv1.Endpoint) bool { return o.isLocal(e) && isServingTerminating(e) })
	}
	return chosen
}

func (o oracle) pick(pass func(*servicelbv1.Endpoint) bool) []string {
	var list []string
	for _, e := range o.endpoints {
		if pass(e) {
			list = append(list, e.GetAddresses()[0])
		}
	}
	slices.Sort(list)
	return list
}

func addressesOf(backends []serviceview.Backend) []string {
	var list []string
	for _, b := range backends {
		list = append(list, b.Address.Addr().String())
	}
	slices.Sort(list)
	return list
}

// TestTheRulesAreKubeProxys compares with the oracle. Traffic distribution is
// left out: where Kubernetes is, hints come of it.
func TestTheRulesAreKubeProxys(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		places := rapid.SampledFrom([]string{"@n1/z1", "@n2/z1", "@n3/z2"})
		states := rapid.SampledFrom([]string{"", " ready", " unready", " terminating", " dying"})
		hints := rapid.SampledFrom([]string{"", " zones=z1", " zones=z2", " zones=z1,z2", " nodes=n1 zones=z2", " zones=z1 nodes=n2"})
		few := hints
		if rapid.Bool().Draw(rt, "all have hints") {
			few = rapid.SampledFrom([]string{" zones=z1", " zones=z2", " nodes=n1 zones=z2", " zones=z1 nodes=n2"})
		}
		var texts []string
		for i := range rapid.IntRange(0, 6).Draw(rt, "endpoints") {
			texts = append(texts, fmt.Sprint(i+1, places.Draw(rt, "place"), states.Draw(rt, "state"), few.Draw(rt, "hints")))
		}
		s := slice(t, texts...)
		service := web(func(s *servicelbv1.Service) {
			policy := rapid.SampledFrom([]servicelbv1.TrafficPolicy{cluster, local})
			s.InternalTrafficPolicy, s.ExternalTrafficPolicy = policy.Draw(rt, "internal"), policy.Draw(rt, "external")
		})
		v, err := serviceview.Compute(service, []*servicelbv1.EndpointSlice{s}, looking)
		if err != nil {
			rt.Fatal(err)
		}
		o, p := oracle{endpoints: s.GetEndpoints(), node: looking}, v.Ports[0]
		want := func(isLocal bool) []string {
			if isLocal {
				return o.local()
			}
			return o.cluster()
		}
		for _, c := range []struct {
			what      string
			got, want []string
		}{
			{"internal", addressesOf(p.Internal), want(v.InternalLocal)},
			{"external", addressesOf(p.External), want(v.ExternalLocal)},
			{"anywhere", addressesOf(p.Anywhere), o.cluster()},
		} {
			if !slices.Equal(c.got, c.want) {
				rt.Fatalf("%s: got %v, want %v, of %v", c.what, c.got, c.want, texts)
			}
		}
	})
}
