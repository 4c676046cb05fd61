// Package identity says who a process is, and proves it in TLS.
//
// An identity is a role and a name, written in a certificate as its only URI
// SAN, in the form of a SPIFFE ID:
//
//	spiffe://TRUST-DOMAIN/service/ipam      (tenancy, servicelb, egress, nats)
//	spiffe://TRUST-DOMAIN/node/NODE-NAME
//	spiffe://TRUST-DOMAIN/operator/NAME
//
// The package owns the reading of certificates, keys and the CA's certificate
// from files, also when they are replaced while the process runs, and the TLS
// configurations made of them. It promises TLS 1.3 with certificates on both
// ends, verified against the CA and by role; host names play no part. It must
// not decide what a role may do: the APIs say that (see rpcserve).
//
// Used by rpcserve, rpcdial, natsd and everything that connects to NATS.
package identity

import (
	"crypto/x509"
	"fmt"
	"net/url"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	accessv1 "github.com/damask-sdn/damask/proto/damask/access/v1"
)

// DefaultTrustDomain is the trust domain of a cluster that names none.
const DefaultTrustDomain = "damask"

// ID is who a process is.
type ID struct {
	// Role is what it is; never ROLE_UNSPECIFIED in an ID of this package.
	Role accessv1.Role
	// Name is the node's name, the operator's name, or the service's name
	// ("ipam").
	Name string
}

// serviceRoles are the roles of which there is one identity each.
var serviceRoles = map[string]accessv1.Role{
	"ipam":      accessv1.Role_ROLE_IPAM,
	"tenancy":   accessv1.Role_ROLE_TENANCY,
	"servicelb": accessv1.Role_ROLE_SERVICELB,
	"egress":    accessv1.Role_ROLE_EGRESS,
	"nats":      accessv1.Role_ROLE_NATS,
}

// Node is the identity of a node agent.
func Node(name string) ID { return ID{Role: accessv1.Role_ROLE_NODE, Name: name} }

// Operator is the identity of a person, or of a tool that acts for one.
func Operator(name string) ID { return ID{Role: accessv1.Role_ROLE_OPERATOR, Name: name} }

// Service is the identity of a service by its name: "ipam", "tenancy",
// "servicelb", "egress" or "nats". Another name answers an error.
func Service(name string) (ID, error) {
	role, ok := serviceRoles[name]
	if !ok {
		return ID{}, fmt.Errorf("there is no service %q", name)
	}
	return ID{Role: role, Name: name}, nil
}

// String is the path of the SPIFFE ID without its first slash: "node/n1".
func (id ID) String() string {
	switch id.Role {
	case accessv1.Role_ROLE_NODE:
		return "node/" + id.Name
	case accessv1.Role_ROLE_OPERATOR:
		return "operator/" + id.Name
	case accessv1.Role_ROLE_UNSPECIFIED:
		return "nobody"
	default:
		return "service/" + id.Name
	}
}

// URI is the identity as the URI SAN of a certificate. It fails for a name
// that a SPIFFE ID cannot carry (letters, digits, dot, hyphen and underscore)
// and for a role that does not fit the name.
func (id ID) URI(trustDomain string) (*url.URL, error) {
	spiffe, err := spiffeid.FromString("spiffe://" + trustDomain + "/" + id.String())
	if err != nil {
		return nil, fmt.Errorf("identity %s: %w", id, err)
	}
	if back, err := parsePath(spiffe.Path()); err != nil || back != id {
		return nil, fmt.Errorf("identity %s: role %s does not fit", id, id.Role)
	}
	return spiffe.URL(), nil
}

// Parse reads an identity from the text of a SPIFFE ID, which must be of the
// trust domain.
func Parse(trustDomain, uri string) (ID, error) {
	spiffe, err := spiffeid.FromString(uri)
	if err != nil {
		return ID{}, fmt.Errorf("identity %q: %w", uri, err)
	}
	if got := spiffe.TrustDomain().Name(); got != trustDomain {
		return ID{}, fmt.Errorf("identity %q: not of trust domain %q", uri, trustDomain)
	}
	id, err := parsePath(spiffe.Path())
	if err != nil {
		return ID{}, fmt.Errorf("identity %q: %w", uri, err)
	}
	return id, nil
}

func parsePath(path string) (ID, error) {
	kind, name, ok := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if !ok || name == "" || strings.Contains(name, "/") {
		return ID{}, fmt.Errorf("path %q is not /service/NAME, /node/NAME or /operator/NAME", path)
	}
	switch kind {
	case "node":
		return Node(name), nil
	case "operator":
		return Operator(name), nil
	case "service":
		return Service(name)
	default:
		return ID{}, fmt.Errorf("path %q is not /service/NAME, /node/NAME or /operator/NAME", path)
	}
}

// FromCertificate reads the identity from a certificate's only URI SAN. It
// does not verify the certificate.
func FromCertificate(trustDomain string, cert *x509.Certificate) (ID, error) {
	if n := len(cert.URIs); n != 1 {
		return ID{}, fmt.Errorf("certificate %q has %d URI names instead of one", cert.Subject.CommonName, n)
	}
	return Parse(trustDomain, cert.URIs[0].String())
}
