// Package certificates gives the processes of a cluster on Kubernetes their certificates.
//
// It owns the CA in the Secret damask-ca, the certificates that others trust in the ConfigMap
// of the same name, the Secrets damask-SERVICE-tls, and the signer damask.io/node of the
// certificates API. It promises that each is there, is renewed before it ends, and is
// written only when something has to be different; that a new CA is trusted by everybody
// before it issues anything; and that a node gets no certificate but its own, whatever
// it asks for, as the API server says on which node the asking pod runs.
//
// It must not touch a Secret that it did not make, nor keep a node's private key, which never
// leaves the node. Keeper and Signer are for damask-certificates, Node is for
// damask-node-certificate.
package certificates

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

const (
	// SignerName is whom nodes ask in the certificates API.
	SignerName = "damask.io/node"
	// CAName is the name of the CA's Secret, and of the ConfigMap with whom to trust.
	CAName = "damask-ca"
	// BundleKey is the key of that ConfigMap, and of each Secret.
	BundleKey = "ca.crt"
	// managedBy marks what may be written again.
	managedBy, keeperName = "app.kubernetes.io/managed-by", "damask-certificates"
)

// renewAt is when a certificate is to be replaced: with a third of its life left, there is
// time for whatever is away to come back.
func renewAt(c *x509.Certificate) time.Time {
	return c.NotBefore.Add(c.NotAfter.Sub(c.NotBefore) * 2 / 3)
}

// parseCertificate reads the first certificate of a PEM text.
func parseCertificate(text []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("there is no certificate in PEM form")
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	return c, nil
}
