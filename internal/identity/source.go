package identity

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/go-hclog"

	accessv1 "github.com/damask-sdn/damask/proto/damask/access/v1"
)

// Source holds a process's identity and makes TLS configurations of it. Each
// handshake looks whether the files were replaced and then uses the new ones;
// connections that are up keep what they agreed on. If the new files cannot
// be used (a half-written one, say) the old ones stay in use, with a warning.
// It is safe for concurrent use.
type Source struct {
	files Files
	log   hclog.Logger

	mu       sync.Mutex
	current  *material
	rejected [3]stamp // the replacement that was warned about
}

// NewSource reads the files. It fails when they do not fit one another, or
// the certificate has no identity of the trust domain, or is not of the CA.
func NewSource(files Files, log hclog.Logger) (*Source, error) {
	m, err := files.load()
	if err != nil {
		return nil, fmt.Errorf("load identity: %w", err)
	}
	return &Source{files: files, log: log, current: m}, nil
}

// ID is who the process is, by the certificate in use.
func (s *Source) ID() ID { return s.material().id }

// TrustDomain is the trust domain of the cluster.
func (s *Source) TrustDomain() string { return s.files.trustDomain() }

// material answers what the files hold now, or held last when they cannot be
// used.
func (s *Source) material() *material {
	s.mu.Lock()
	defer s.mu.Unlock()
	stamps, err := s.files.stamps()
	if err == nil && stamps == s.current.stamps {
		return s.current
	}
	m, err := s.files.load()
	switch {
	case err == nil:
		s.current, s.rejected = m, [3]stamp{}
		s.log.Info("identity reloaded", "identity", m.id.String(), "not_after", m.certificate.Leaf.NotAfter)
	case stamps != s.rejected:
		s.rejected = stamps
		s.log.Warn("replaced identity cannot be used, keeping the former one", "error", err)
	}
	return s.current
}

// ServerTLS is for a server. It takes every client that the CA vouches for
// and that has an identity; what a client may do is decided per call.
func (s *Source) ServerTLS() *tls.Config {
	config := s.base()
	config.ClientAuth = tls.RequireAnyClientCert // verified by VerifyConnection, against the CA of the moment
	config.VerifyConnection = s.verifier(x509.ExtKeyUsageClientAuth, nil)
	return config
}

// ClientTLS is for a client that talks to a server in one of the roles.
// Without roles it accepts any identity of the trust domain.
func (s *Source) ClientTLS(roles ...accessv1.Role) *tls.Config {
	config := s.base()
	config.InsecureSkipVerify = true // instead, VerifyConnection checks the chain and the role; names play no part
	config.VerifyConnection = s.verifier(x509.ExtKeyUsageServerAuth, roles)
	return config
}

// PeerTLS is for a process that both accepts and opens connections with one
// configuration, such as the routes between NATS servers; both ends must have
// one of the roles.
func (s *Source) PeerTLS(roles ...accessv1.Role) *tls.Config {
	config := s.base()
	config.ClientAuth = tls.RequireAnyClientCert
	config.InsecureSkipVerify = true // as in ClientTLS
	config.VerifyConnection = s.verifier(x509.ExtKeyUsageAny, roles)
	return config
}

// Peer answers who is at the other end of a connection that was made with one
// of this source's configurations, verified again against the CA of the
// moment.
func (s *Source) Peer(state tls.ConnectionState) (ID, error) {
	return s.verifyPeer(state, x509.ExtKeyUsageAny)
}

func (s *Source) base() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		// A resumed session would outlive a replaced CA.
		SessionTicketsDisabled: true,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return s.material().certificate, nil
		},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return s.material().certificate, nil
		},
	}
}

func (s *Source) verifier(usage x509.ExtKeyUsage, roles []accessv1.Role) func(tls.ConnectionState) error {
	return func(state tls.ConnectionState) error {
		id, err := s.verifyPeer(state, usage)
		if err != nil {
			return err
		}
		if len(roles) > 0 && !slices.Contains(roles, id.Role) {
			return fmt.Errorf("the other end is %s, expected %s", id, roleNames(roles))
		}
		return nil
	}
}

func (s *Source) verifyPeer(state tls.ConnectionState, usage x509.ExtKeyUsage) (ID, error) {
	if err := verify(s.material().roots, state.PeerCertificates, usage); err != nil {
		return ID{}, fmt.Errorf("verify the other end: %w", err)
	}
	return FromCertificate(s.TrustDomain(), state.PeerCertificates[0])
}

// roleNames writes roles as people do: "ipam or nats".
func roleNames(roles []accessv1.Role) string {
	list := make([]string, len(roles))
	for i, r := range roles {
		list[i] = RoleName(r)
	}
	return strings.Join(list, " or ")
}

// RoleName is a role as people write it: "ipam" for ROLE_IPAM.
func RoleName(role accessv1.Role) string {
	return strings.ToLower(strings.TrimPrefix(role.String(), "ROLE_"))
}
