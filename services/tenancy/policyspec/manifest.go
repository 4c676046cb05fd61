package policyspec

import (
	"bytes"
	"errors"
	"io"

	"github.com/damask-sdn/damask/internal/policy"
	"github.com/damask-sdn/damask/services/tenancy/kubesyntax"
	"go.yaml.in/yaml/v3"
)

// Kinds of policies, with the API versions that are read.
const (
	KindNetworkPolicy  = "NetworkPolicy"
	KindAdminPolicy    = "AdminNetworkPolicy"
	KindBaselinePolicy = "BaselineAdminNetworkPolicy"
	KindClusterPolicy  = "ClusterNetworkPolicy"

	networkingV1   = "networking.k8s.io/v1"
	policyV1alpha1 = "policy.networking.k8s.io/v1alpha1"
	policyV1alpha2 = "policy.networking.k8s.io/v1alpha2"
)

// maxManifest is more than etcd takes, and fits a message of gRPC, in bytes.
const maxManifest = 4_000_000

// maxDepth is deeper than any field of a policy is, so that a manifest made of
// brackets alone is refused before it is walked.
const maxDepth = 40

// Parse reads one manifest. It answers a policy, or every violation.
func Parse(manifest []byte) (Policy, []Violation) {
	r := &reader{}
	root := r.document(manifest)
	if r.violations != nil {
		return Policy{}, r.violations
	}
	top := r.fields(root, "apiVersion", "kind", "metadata", "spec", "status")
	version, kind := r.text(top["apiVersion"]), r.text(top["kind"])
	p := Policy{Key: policy.Key{Kind: kind}}
	switch version + " " + kind {
	case networkingV1 + " " + KindNetworkPolicy:
		r.metadata(top["metadata"], &p.Key, true)
		r.networkPolicy(node{top["spec"].Node, "spec"}, &p)
	case policyV1alpha1 + " " + KindAdminPolicy:
		r.metadata(top["metadata"], &p.Key, false)
		r.adminPolicy(node{top["spec"].Node, "spec"}, &p)
	case policyV1alpha1 + " " + KindBaselinePolicy:
		r.metadata(top["metadata"], &p.Key, false)
		r.baselinePolicy(node{top["spec"].Node, "spec"}, &p)
	case policyV1alpha2 + " " + KindClusterPolicy:
		r.metadata(top["metadata"], &p.Key, false)
		r.clusterPolicy(node{top["spec"].Node, "spec"}, &p)
	default:
		r.refuse("kind", "%q of apiVersion %q is not supported", kind, version)
	}
	if r.violations != nil {
		return Policy{}, r.violations
	}
	return p, nil
}

// document reads the YAML, of which JSON is a part.
func (r *reader) document(manifest []byte) node {
	if len(manifest) > maxManifest {
		r.refuse("manifest", "has more than %d bytes", maxManifest)
		return node{}
	}
	decoder := yaml.NewDecoder(bytes.NewReader(manifest))
	var doc yaml.Node
	if err := decoder.Decode(&doc); err != nil || len(doc.Content) != 1 {
		r.refuse("manifest", "is not YAML or JSON")
		return node{}
	}
	var second yaml.Node
	if err := decoder.Decode(&second); !errors.Is(err, io.EOF) {
		r.refuse("manifest", "must be one document")
		return node{}
	}
	if !plain(doc.Content[0], maxDepth) {
		r.refuse("manifest", "must not have aliases, nor be deeper than %d levels", maxDepth)
		return node{}
	}
	return node{Node: doc.Content[0]}
}

// plain reports whether the YAML is a tree that is not too deep.
func plain(n *yaml.Node, depth int) bool {
	if n.Kind == yaml.AliasNode || depth == 0 {
		return false
	}
	for _, c := range n.Content {
		if !plain(c, depth-1) {
			return false
		}
	}
	return true
}

// metadata reads the names. The rest of it says nothing about what may pass.
func (r *reader) metadata(n node, key *policy.Key, namespaced bool) {
	r.entries(node{n.Node, "metadata"}, func(name string, value node) {
		switch name {
		case "name":
			key.Name = r.text(value)
		case "namespace":
			key.Namespace = r.text(value)
		}
	})
	r.check("metadata.name", kubesyntax.DNSSubdomain(key.Name))
	switch {
	case namespaced:
		r.check("metadata.namespace", kubesyntax.DNSLabel(key.Namespace))
	case key.Namespace != "":
		r.refuse("metadata.namespace", "must be empty: %s is of the whole cluster", key.Kind)
	}
}

// protocol reads a protocol that has ports.
func (r *reader) protocol(n node) policy.Protocol {
	if n.absent() {
		return policy.TCP
	}
	switch text := r.text(n); text {
	case "TCP":
		return policy.TCP
	case "UDP":
		return policy.UDP
	case "SCTP":
		return policy.SCTP
	default:
		r.refuse(n.path, "%q is not supported: TCP, UDP or SCTP", text)
	}
	return policy.TCP
}

// maxPort is the highest port of TCP, UDP and SCTP.
const maxPort = 1<<16 - 1

func (r *reader) port(n node) uint16 { return uint16(r.number(n, 1, maxPort)) }

func (r *reader) required(n node, path string) bool {
	if n.absent() {
		r.refuse(path, "is required")
		return false
	}
	return true
}
