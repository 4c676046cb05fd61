package identity_test

import (
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/identity/authority"
	"github.com/damask-sdn/damask/internal/identity/identitytest"
	accessv1 "github.com/damask-sdn/damask/proto/damask/access/v1"
)

// handshake connects both ends and answers what each learned: the server, who
// the client is.
func handshake(t *testing.T, server *identity.Source, serverTLS, clientTLS *tls.Config) (caller identity.ID, serverErr, clientErr error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	done := make(chan error, 1)
	go func() {
		done <- func() error {
			raw, err := net.Dial("tcp", listener.Addr().String())
			if err != nil {
				return err
			}
			conn := tls.Client(raw, clientTLS)
			defer func() { _ = conn.Close() }()
			if err := conn.Handshake(); err != nil {
				return err
			}
			_, err = conn.Read(make([]byte, 1)) // with TLS 1.3 a refusal arrives after the handshake
			return err
		}()
	}()
	raw, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	conn := tls.Server(raw, serverTLS)
	if serverErr = conn.Handshake(); serverErr == nil {
		caller, serverErr = server.Peer(conn.ConnectionState())
		_, _ = conn.Write([]byte{1})
	}
	clientErr = <-done
	_ = conn.Close()
	return caller, serverErr, clientErr
}

func TestBothEndsProveWhoTheyAre(t *testing.T) {
	ca, other := identitytest.New(t), identitytest.New(t)
	ipam := ca.Source(t, identitytest.Service(t, "ipam"))
	node := ca.Source(t, identity.Node("n1"))
	stranger := other.Source(t, identity.Node("n1"))
	for _, tc := range []struct {
		name                     string
		server                   *tls.Config
		client                   *tls.Config
		serverWants, clientWants string
	}{
		{"same CA and expected role", ipam.ServerTLS(), node.ClientTLS(accessv1.Role_ROLE_IPAM), "", ""},
		{"any role", ipam.ServerTLS(), node.ClientTLS(), "", ""},
		{"as peers", ipam.PeerTLS(accessv1.Role_ROLE_NODE), node.PeerTLS(accessv1.Role_ROLE_IPAM), "", ""},
		{"client of another CA", ipam.ServerTLS(), stranger.PeerTLS(), "unknown authority", "unknown authority"},
		{"server of another role", ipam.ServerTLS(), node.ClientTLS(accessv1.Role_ROLE_NATS, accessv1.Role_ROLE_TENANCY), "bad certificate", "the other end is service/ipam, expected nats or tenancy"},
		{"peer of another role", ipam.PeerTLS(accessv1.Role_ROLE_IPAM), node.PeerTLS(), "the other end is node/n1, expected ipam", "bad certificate"},
		{"client without certificate", ipam.ServerTLS(), &tls.Config{InsecureSkipVerify: true}, "didn't provide a certificate", "certificate required"},
		{"old TLS", ipam.ServerTLS(), oldTLS(node.ClientTLS()), "version", "version"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			caller, serverErr, clientErr := handshake(t, ipam, tc.server, tc.client)
			mustSay(t, "server", serverErr, tc.serverWants)
			mustSay(t, "client", clientErr, tc.clientWants)
			if tc.serverWants == "" && caller != identity.Node("n1") {
				t.Errorf("caller is %v", caller)
			}
		})
	}
}

func oldTLS(config *tls.Config) *tls.Config {
	config.MinVersion, config.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	return config
}

func mustSay(t *testing.T, who string, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("%s: %v", who, err)
	case want != "" && err == nil:
		t.Errorf("%s: no error, want %q", who, want)
	case want != "" && want != "unknown authority" && !strings.Contains(err.Error(), want):
		t.Errorf("%s: got %v, want %q", who, err, want)
	}
}

func TestReplacedFilesAreUsedWithoutARestart(t *testing.T) {
	before, after := identitytest.New(t), identitytest.New(t)
	dir := t.TempDir()
	files, err := before.IssueFiles(dir, identitytest.Service(t, "ipam"), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	source, err := identity.NewSource(files, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	serverTLS := source.ServerTLS() // made once, as a server does
	oldClient := before.Source(t, identity.Node("n1"))
	newClient := after.Source(t, identity.Node("n1"))
	if _, _, err := handshake(t, source, serverTLS, oldClient.ClientTLS(accessv1.Role_ROLE_IPAM)); err != nil {
		t.Fatalf("before: %v", err)
	}

	if err := os.WriteFile(files.Key, []byte("half a k"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := handshake(t, source, serverTLS, oldClient.ClientTLS(accessv1.Role_ROLE_IPAM)); err != nil {
		t.Errorf("with a broken key file: %v", err)
	}

	if _, err := after.IssueFiles(dir, identitytest.Service(t, "ipam"), time.Hour); err != nil {
		t.Fatal(err)
	}
	if _, _, err := handshake(t, source, serverTLS, newClient.ClientTLS(accessv1.Role_ROLE_IPAM)); err != nil {
		t.Errorf("after: %v", err)
	}
	if _, serverErr, _ := handshake(t, source, serverTLS, oldClient.PeerTLS()); serverErr == nil {
		t.Error("after: a certificate of the former CA got in")
	}
}

func TestFilesThatDoNotFitAreRefusedAtStart(t *testing.T) {
	ca, other := identitytest.New(t), identitytest.New(t)
	good, foreign := ca.Files(t, identity.Node("n1")), other.Files(t, identity.Node("n1"))
	expired := t.TempDir()
	late, err := ca.IssueFiles(expired, identity.Node("n1"), time.Nanosecond)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name  string
		files identity.Files
		want  string
	}{
		{"no file", identity.Files{Certificate: "/none", Key: good.Key, CA: good.CA}, "/none"},
		{"key of another certificate", identity.Files{Certificate: good.Certificate, Key: foreign.Key, CA: good.CA}, "does not match"},
		{"another CA", identity.Files{Certificate: good.Certificate, Key: good.Key, CA: foreign.CA}, "unknown authority"},
		{"no CA in the file", identity.Files{Certificate: good.Certificate, Key: good.Key, CA: good.Key}, "no certificate in PEM form"},
		{"another trust domain", identity.Files{Certificate: good.Certificate, Key: good.Key, CA: good.CA, TrustDomain: "other"}, `not of trust domain "other"`},
		{"expired", late, "expired"},
		{"no identity", identity.Files{Certificate: good.CA, Key: good.Key, CA: good.CA}, "does not match"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := identity.NewSource(tc.files, hclog.NewNullLogger())
			mustSay(t, "source", err, tc.want)
		})
	}
}

func TestAnAuthorityCanBeReopenedAndKeepsItsKeysPrivate(t *testing.T) {
	dir := t.TempDir()
	made, err := authority.New("", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := made.Write(dir); err != nil {
		t.Fatal(err)
	}
	again, err := authority.Open(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	files, err := again.IssueFiles(filepath.Join(dir, "n1"), identity.Node("n1"), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	files.CA = filepath.Join(dir, authority.CACertificateFile)
	if _, err := identity.NewSource(files, hclog.NewNullLogger()); err != nil {
		t.Error(err)
	}
	for _, key := range []string{files.Key, filepath.Join(dir, authority.CAKeyFile)} {
		if info, err := os.Stat(key); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", key, info.Mode(), err)
		}
	}
	if _, _, err := made.Issue(identity.Node("n1"), 0); err == nil {
		t.Error("issued a certificate without a lifetime")
	}
	if _, _, err := made.Issue(identity.Node("n 1"), time.Hour); err == nil {
		t.Error("issued a certificate for an impossible name")
	}
}
