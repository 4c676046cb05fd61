// Package adopt judges whether Damask would keep a cluster of OpenShift SDN as it is.
//
// It owns what it takes to keep an object: that what it says can be had by Damask, and
// means the same. It promises to name every object that would not be kept, with all its
// reasons, and every one that works in another way, as far as objects tell. It must not
// change anything, and talks to nobody: objects come as kubectl prints them, or package
// openshift hands them on.
package adopt

import (
	"cmp"
	"fmt"
	"slices"
)

// Verdict is what becomes of an object.
type Verdict string

// The verdicts, the worst last. What is kept and means the same is not spoken of.
const (
	// Differs is kept, and works in another way than before.
	Differs Verdict = "differs"
	// Lost cannot be kept.
	Lost Verdict = "lost"
)

// Finding is one thing about one object.
type Finding struct {
	// Kind of the object.
	Kind string `json:"kind" yaml:"kind"`
	// Name of the object, with its namespace before it if it has one.
	Name string `json:"name" yaml:"name"`
	// Verdict on it.
	Verdict Verdict `json:"verdict" yaml:"verdict"`
	// Reason in the words of an administrator.
	Reason string `json:"reason" yaml:"reason"`
}

// Report is the judgement of a cluster.
type Report struct {
	// Objects counts the objects that were judged, by kind.
	Objects map[string]int `json:"objects" yaml:"objects"`
	// Findings, by kind and name.
	Findings []Finding `json:"findings" yaml:"findings"`
	// Order is the order in which nodes are best taken over: those first that host egress
	// IPs.
	Order []string `json:"order" yaml:"order"`
}

// Lost counts what cannot be kept.
func (r Report) Lost() int {
	n := 0
	for _, f := range r.Findings {
		if f.Verdict == Lost {
			n++
		}
	}
	return n
}

// Check judges a cluster.
func Check(c Cluster) Report {
	k := &checker{cluster: c}
	k.network()
	k.subnets()
	k.namespaces()
	k.egressIPs()
	k.firewalls()
	k.policies()
	r := Report{Objects: c.counts(), Findings: k.findings, Order: k.order()}
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
	return r
}

// checker collects findings.
type checker struct {
	cluster  Cluster
	plan     addressPlan
	findings []Finding
}

func (k *checker) add(v Verdict, kind, name, format string, args ...any) {
	k.findings = append(k.findings, Finding{Kind: kind, Name: name, Verdict: v, Reason: fmt.Sprintf(format, args...)})
}

// about answers what adds findings of one object.
func (k *checker) about(kind, name string) (lost, differs func(format string, args ...any)) {
	return func(format string, args ...any) { k.add(Lost, kind, name, format, args...) },
		func(format string, args ...any) { k.add(Differs, kind, name, format, args...) }
}

// order names the nodes as they are best taken over. A node that hosts egress IPs is
// where the others send what leaves by them, whichever kind they are; Damask's nodes send
// nothing there before it is Damask's.
func (k *checker) order() []string {
	var first, rest []string
	for _, h := range k.cluster.HostSubnets {
		if len(h.EgressIPs) > 0 || len(h.EgressCIDRs) > 0 {
			first = append(first, h.Metadata.Name)
		} else {
			rest = append(rest, h.Metadata.Name)
		}
	}
	slices.Sort(first)
	slices.Sort(rest)
	return append(first, rest...)
}
