package intent

import (
	"net/netip"
	"slices"

	"github.com/damask-sdn/damask/services/nodeagent/openflow"
	"github.com/damask-sdn/damask/services/nodeagent/pipeline"
)

// compileEgress answers how a VNID leaves. The caller holds the lock.
func (s *State) compileEgress(node pipeline.Node, vnid uint32) []openflow.Flow {
	e := pipeline.Egress{VNID: vnid, Reserved: s.egress.reserved, Pods: map[netip.Addr]pipeline.EgressWay{}}
	for _, h := range s.egress.hosted {
		if h.vnid == vnid {
			e.Hosted = append(e.Hosted, pipeline.EgressHosted{Slot: h.slot, MatchPods: h.matchPods, Pods: s.egress.pods[h.selectionKey], Firewall: s.firewall(h.namespace)})
		}
	}
	alike := true
	for _, pod := range s.pods {
		if of, known := s.namespaces[pod.Namespace]; !known || of != vnid {
			continue
		}
		way, decided := s.way(pod)
		switch {
		case !decided:
			// It has a flow of its own that keeps it inside.
		case way == nil:
			alike = false
		default:
			e.Pods[pod.IP] = *way
			e.Whole = way
		}
	}
	for _, way := range e.Pods {
		alike = alike && slices.Equal(way, *e.Whole)
	}
	if alike && e.Whole != nil {
		e.Pods = nil
	} else {
		e.Whole = nil
	}
	return pipeline.EgressFragment(node, e).Flows
}

// leaving says whether a pod must be closed towards the world outside, and whether it
// leaves by egress IPs alone. The caller holds the lock.
func (s *State) leaving(pod Pod) (inside, byEgressIP bool) {
	if !s.egress.followed {
		return false, false
	}
	way, decided := s.way(pod)
	return !decided || way != nil && s.mode == pipeline.Subnet, way != nil
}

// way answers where a pod leaves: nil is as its node does. It is not decided while it
// is not known whether the namespace has egress IPs, or which of its selections takes
// the pod. That is what the lists of egress say, and not the labels that the pod
// came with, so that its own node and the hosting ones agree: if any selection but
// the default one exists, a pod waits until one list names it. The caller holds the lock.
func (s *State) way(pod Pod) (way *pipeline.EgressWay, decided bool) {
	selections, known := s.egress.namespaces[pod.Namespace]
	vnid, hasVNID := s.namespaces[pod.Namespace]
	switch {
	case !known || !hasVNID:
		return nil, false
	case len(selections) == 0:
		return nil, true
	case len(selections) == 1 && selections[0].name == defaultSelection:
		return s.places(pod.Namespace, selections[0], vnid), true
	}
	taken := -1
	for i, sel := range selections {
		if _, named := slices.BinarySearchFunc(s.egress.pods[selectionKey{pod.Namespace, sel.name}], pod.IP, netip.Addr.Compare); !named {
			continue
		}
		if taken >= 0 {
			return nil, false
		}
		taken = i
	}
	if taken < 0 {
		// The rest, which has no assignment, is known by its list.
		return nil, s.inRest(pod, selections)
	}
	return s.places(pod.Namespace, selections[taken], vnid), true
}

// inRest says whether a pod is listed as one that no selection takes, and so leaves as
// its node does. The caller holds the lock.
func (s *State) inRest(pod Pod, selections []selection) bool {
	if slices.ContainsFunc(selections, func(sel selection) bool { return sel.name == defaultSelection }) {
		return false
	}
	_, named := slices.BinarySearchFunc(s.egress.pods[selectionKey{pod.Namespace, defaultSelection}], pod.IP, netip.Addr.Compare)
	return named
}

// places answers where a selection leaves: at other nodes, as it was told, and at
// this one if the address is ready here. There is none while it was assigned for
// another VNID than the namespace has: the hosting nodes would not know it.
func (s *State) places(namespace string, sel selection, vnid uint32) *pipeline.EgressWay {
	way := pipeline.EgressWay{}
	if !sel.hasVNID || sel.vnid != vnid {
		return &way
	}
	for _, a := range sel.addresses {
		if a.node != s.self {
			way = append(way, pipeline.EgressPlace{Node: a.at})
			continue
		}
		h, ready := s.egress.hosted[a.ip]
		if ready && h.selectionKey == (selectionKey{namespace, sel.name}) && h.vnid == vnid {
			way = append(way, pipeline.EgressPlace{Slot: h.slot})
		}
	}
	return &way
}
