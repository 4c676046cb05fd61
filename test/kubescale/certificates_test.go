package kubescale

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/identity/identitytest"
	"github.com/damask-sdn/damask/internal/proctest"
)

var requestsKind = schema.GroupVersionResource{Group: "certificates.k8s.io", Version: "v1", Resource: "certificatesigningrequests"}

// startCertificates starts what issues certificates where each node's request has been
// answered, as a day after all have come, and returns when it has seen them.
func (s *system) startCertificates(api dynamic.Interface) *proctest.Process {
	s.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.Fatal(err)
	}
	chain, err := os.ReadFile(s.ca.Files(s.B, identitytest.Service(s.B, "ipam")).Certificate)
	if err != nil {
		s.Fatal(err)
	}
	s.all(manyNodes, func(i int) error { return answer(api, request(key, i, nodeName(i)), chain) })
	s.cluster.Apply(s.B, "{apiVersion: v1, kind: Namespace, metadata: {name: damask-system}}")
	kubeconfig := s.cluster.NewGate(s.B).Kubeconfig(s.B, s.cluster.As(s.B, "damask-certificates", "system:masters"))
	program, err := filepath.Abs("../../bin/damask-certificates")
	if err != nil {
		s.Fatal(err)
	}
	log := &strings.Builder{}
	cmd := exec.Command(program, "-kubeconfig", kubeconfig)
	cmd.Stdout, cmd.Stderr = log, log
	process := proctest.Start(s.B, cmd)
	s.Cleanup(func() {
		process.Stop()
		if s.Failed() {
			s.Logf("certificates logged:\n%s", log)
		}
	})
	// Nobody but a node's agent gets a certificate: this one is denied, when all others are known.
	const last = "last"
	if _, err := api.Resource(requestsKind).Create(context.Background(), request(key, 0, last), metav1.CreateOptions{}); err != nil {
		s.Fatal(err)
	}
	for end := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		made, err := api.Resource(requestsKind).Get(context.Background(), last, metav1.GetOptions{})
		if err != nil {
			s.Fatal(err)
		}
		if conditions, _, _ := unstructured.NestedSlice(made.Object, "status", "conditions"); len(conditions) > 0 {
			return process
		}
		if time.Now().After(end) {
			s.Fatal("a request for a certificate was not answered")
		}
	}
}

// request is what a node's agent asks for.
func request(key *ecdsa.PrivateKey, i int, name string) *unstructured.Unstructured {
	uri, err := identity.Node(nodeName(i)).URI(identity.DefaultTrustDomain)
	var der []byte
	if err == nil {
		der, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{uri}}, key)
	}
	if err != nil {
		panic(fmt.Sprintf("a request for a certificate: %v", err)) // The key and the name are ours.
	}
	return object("certificates.k8s.io/v1", "CertificateSigningRequest", "", name, map[string]any{"spec": map[string]any{
		"signerName": "damask.io/node", "usages": []any{"client auth", "digital signature", "server auth"},
		"request": base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})),
	}})
}

// answer makes a request that is approved and has its certificate.
func answer(api dynamic.Interface, asked *unstructured.Unstructured, chain []byte) error {
	client := api.Resource(requestsKind)
	made, err := client.Create(context.Background(), asked, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	conditions := []any{map[string]any{"type": "Approved", "status": "True", "reason": "OwnNode", "message": "asked for by the agent of this node"}}
	if err := unstructured.SetNestedSlice(made.Object, conditions, "status", "conditions"); err != nil {
		return err
	}
	if made, err = client.Update(context.Background(), made, metav1.UpdateOptions{}, "approval"); err != nil {
		return err
	}
	if err := unstructured.SetNestedField(made.Object, base64.StdEncoding.EncodeToString(chain), "status", "certificate"); err != nil {
		return err
	}
	_, err = client.UpdateStatus(context.Background(), made, metav1.UpdateOptions{})
	return err
}
