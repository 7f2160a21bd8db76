// Asks with golang.org/x/crypto/ocsp, which parses strictly and checks signature and delegation against the issuer.
// Reads lines "issuer leaf status" from standard input; arguments: URL, directory.
package main

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"golang.org/x/crypto/ocsp"
)

var client = &http.Client{Timeout: 10 * time.Second}

func certificate(name string) (*x509.Certificate, error) {
	data, err := os.ReadFile(name + ".pem")
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("%s.pem: no PEM", name)
	}
	return x509.ParseCertificate(block.Bytes)
}

func exchange(base string, request []byte, method string) ([]byte, error) {
	var answer *http.Response
	var err error
	if method == http.MethodGet {
		answer, err = client.Get(base + "/" + url.QueryEscape(base64.StdEncoding.EncodeToString(request)))
	} else {
		answer, err = client.Post(base, "application/ocsp-request", bytes.NewReader(request))
	}
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("HTTP %s", answer.Status)
	}
	return io.ReadAll(answer.Body)
}

// said is the status that a verified response gives, or the error status of one that is not signed.
func said(base, dir, issuer, leaf, asIssuer, method string, hash crypto.Hash) (string, error) {
	ca, err := certificate(dir + "/" + asIssuer + "/ca")
	if err != nil {
		return "", err
	}
	cert, err := certificate(dir + "/" + issuer + "/" + leaf)
	if err != nil {
		return "", err
	}
	request, err := ocsp.CreateRequest(cert, ca, &ocsp.RequestOptions{Hash: hash})
	if err != nil {
		return "", err
	}
	body, err := exchange(base, request, method)
	if err != nil {
		return "", err
	}
	response, err := ocsp.ParseResponseForCert(body, cert, ca)
	if refused, ok := err.(ocsp.ResponseError); ok {
		return refused.Status.String(), nil
	} else if err != nil {
		return "", err
	}
	// A parser without a certificate at hand wants exactly one SingleResponse.
	if _, err := ocsp.ParseResponse(body, ca); err != nil {
		return "", err
	}
	now := time.Now()
	switch {
	case response.IssuerHash != hash:
		return "", fmt.Errorf("asked in %v, answered in %v", hash, response.IssuerHash)
	case response.ThisUpdate.After(now) || !response.NextUpdate.After(now):
		return "", fmt.Errorf("from %v to %v, and it is %v", response.ThisUpdate, response.NextUpdate, now)
	case response.Certificate == nil || response.NextUpdate.After(response.Certificate.NotAfter):
		return "", fmt.Errorf("it outlives its signer")
	case response.Status == ocsp.Revoked && response.RevocationReason != ocsp.KeyCompromise:
		return "", fmt.Errorf("reason %d", response.RevocationReason)
	}
	return map[int]string{ocsp.Good: "good", ocsp.Revoked: "revoked", ocsp.Unknown: "unknown"}[response.Status], nil
}

func main() {
	base, dir, failed := os.Args[1], os.Args[2], false
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) != 4 {
			fmt.Println("FAIL go: not a line of four words:", lines.Text())
			os.Exit(1)
		}
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
				name := fmt.Sprintf("go: %s %s, issuer %s, %v, %s", f[0], f[1], f[2], hash, method)
				got, err := said(base, dir, f[0], f[1], f[2], method, hash)
				if err == nil && got == f[3] {
					fmt.Println("ok", name)
				} else {
					fmt.Printf("FAIL %s: %q instead of %q, %v\n", name, got, f[3], err)
					failed = true
				}
			}
		}
	}
	if failed {
		os.Exit(1)
	}
}
