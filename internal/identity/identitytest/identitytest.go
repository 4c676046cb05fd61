// Package identitytest gives tests certificates in one call.
package identitytest

import (
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/identity/authority"
)

// lifetime is longer than any test.
const lifetime = time.Hour

// CA is a certificate authority that lives as long as a test.
type CA struct {
	*authority.Authority
}

// New makes a CA of the default trust domain.
func New(t testing.TB) *CA {
	t.Helper()
	a, err := authority.New(identity.DefaultTrustDomain, lifetime)
	if err != nil {
		t.Fatalf("create CA: %v", err)
	}
	return &CA{Authority: a}
}

// Files issues a certificate for an identity into a directory of the test's
// own.
func (c *CA) Files(t testing.TB, id identity.ID) identity.Files {
	t.Helper()
	files, err := c.IssueFiles(t.TempDir(), id, lifetime)
	if err != nil {
		t.Fatalf("issue certificate: %v", err)
	}
	return files
}

// Source issues a certificate for an identity and loads it.
func (c *CA) Source(t testing.TB, id identity.ID) *identity.Source {
	t.Helper()
	source, err := identity.NewSource(c.Files(t, id), hclog.NewNullLogger())
	if err != nil {
		t.Fatalf("load identity: %v", err)
	}
	return source
}

// Service is identity.Service for a service that is known to exist.
func Service(t testing.TB, name string) identity.ID {
	t.Helper()
	id, err := identity.Service(name)
	if err != nil {
		t.Fatal(err)
	}
	return id
}
