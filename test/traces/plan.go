package traces

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// later names the walks that need what does not exist yet, and what that is. A walk
// is in this list, or it is judged: nothing is left out by silence.
var later = map[string]string{}

// onePort is the walk of a tenant to a service. A pod of VNID 0 goes another way since
// the walk was seen: "pod-to-service", which is of a newer release.
const onePort = "pod-to-service, one rule a service port"

// judged names the walks that must hold now. Site is given where the document tells
// the node only in prose.
var judged = map[string]*Site{
	"pod-to-local-pod": nil,
	"egress IP, pod on another node than the egress IP": nil,
	"egress IP, on the node that hosts it":              nil,
	"pod-to-remote-pod, leaving":                        nil,
	"pod-to-remote-pod, arriving":                       nil,
	"tunnel packet from an unknown sender is dropped":   nil,
	"pod-to-external":                                   nil,
	"pod-to-service":                                    nil, // What follows in the kernel is judged by the services' own tests.
	"reply to the gateway":                              proseSite("10.130.8.1/23"),
	// Of the same document as the one above, which tells the service in its flow alone.
	onePort: proseSite("10.130.8.1/23").with("observed/one", Service{
		ClusterIP: netip.MustParseAddr("172.30.107.57"), Port: 8080,
	}),
	"a pod that the seeds show in table 40, 70 and 80": proseSite("10.131.2.1/23"),
	"table 0 of a 3.11 node":                           proseSite("10.130.0.1/23"),
}

// Site is what a node must be like for a walk to be asked on it.
type Site struct {
	ClusterNetwork netip.Prefix
	ServiceNetwork netip.Prefix
	Node           Node
	Remotes        map[string]Node // The other nodes.
	Pods           map[string]Pod  // With the VNIDs of the setting.
	Services       map[string]Service
	Egress         *Egress // Of the pods' VNID.
}

// egressVNID is the VNID that all walks with an egress IP were seen with.
const egressVNID = 0x82f8b2

// with is a site with one service more.
func (s *Site) with(name string, service Service) *Site {
	s.Services = map[string]Service{name: service}
	return s
}

// proseSite is a node of which only tun0 is told. All observed clusters have the
// same cluster network.
func proseSite(gateway string) *Site {
	tun0 := netip.MustParsePrefix(gateway)
	return &Site{
		ClusterNetwork: netip.MustParsePrefix("10.128.0.0/14"),
		ServiceNetwork: netip.MustParsePrefix("172.30.0.0/16"),
		Node:           Node{IP: netip.MustParseAddr("192.168.108.200"), Subnet: tun0.Masked(), Gateway: tun0.Addr()},
	}
}

// Judged picks the walks that must hold now. Its error names walks of which nobody
// has decided, and decisions about walks that are gone.
func Judged(walks []Walk) ([]Walk, error) {
	var now []Walk
	var problems []string
	names := map[string]bool{}
	for _, w := range walks {
		names[w.Name] = true
		_, isJudged := judged[w.Name]
		_, isLater := later[w.Name]
		switch {
		case isJudged == isLater:
			problems = append(problems, fmt.Sprintf("walk %q: decide in plan.go whether it is judged now or later", w.Name))
		case isJudged:
			now = append(now, w)
		}
	}
	for _, decided := range []iter.Seq[string]{maps.Keys(judged), maps.Keys(later)} {
		for name := range decided {
			if !names[name] {
				problems = append(problems, fmt.Sprintf("walk %q is decided about and not in the document", name))
			}
		}
	}
	if problems != nil {
		slices.Sort(problems)
		return nil, errors.New(strings.Join(problems, "\n"))
	}
	return now, nil
}

// Site is the node on which the walk is asked, with the setting's VNID for all pods.
func (w Walk) Site(s Setting) (Site, error) {
	site := Site{ClusterNetwork: w.ClusterNetwork, ServiceNetwork: w.ServiceNetwork, Node: w.Nodes[w.On], Services: w.Services, Egress: w.Egress}
	if prose := judged[w.Name]; prose != nil {
		site = *prose
	} else if w.On == "" || !site.Node.Subnet.IsValid() {
		return Site{}, fmt.Errorf("walk %q does not say on which node it was seen", w.Name)
	}
	site.Remotes = map[string]Node{}
	for name, node := range w.Nodes {
		if name != w.On {
			site.Remotes[name] = node
		}
	}
	site.Pods = map[string]Pod{}
	for name, pod := range w.Pods {
		if seen := w.seenVNID(); pod.VNID != seen {
			return Site{}, fmt.Errorf("walk %q: pod %s has VNID %d; this walk can be told for others only from %d", w.Name, name, pod.VNID, seen)
		}
		pod.VNID = s.VNID
		site.Pods[name] = pod
	}
	return site, nil
}

// seenVNID is the VNID with which the walk was seen.
func (w Walk) seenVNID() uint32 {
	if w.Egress != nil {
		return egressVNID
	}
	return 0
}
